"""A fit on disk: the run folder, its lock, what goes on after an interruption, what is released."""
