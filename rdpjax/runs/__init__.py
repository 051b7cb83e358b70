"""A fit on disk: the run folder and its lock, resuming after an interruption, and the release."""
