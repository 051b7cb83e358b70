"""Reference divergences and deltas, computed without an accountant."""
