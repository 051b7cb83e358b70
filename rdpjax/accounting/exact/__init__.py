"""Divergences computed by other means than an accountant."""
