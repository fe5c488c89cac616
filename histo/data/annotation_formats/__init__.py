"""One reader a format: what annotation files hold, in level-0 px, before anything is judged."""
