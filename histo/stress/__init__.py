"""The forty stress and shortcut tests: what a model must bear, must not fall for, and must find."""
