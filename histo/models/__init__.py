"""Networks, the step from score maps to a verdict, and model bundles."""
