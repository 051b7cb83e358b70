"""Flax networks and per-example losses; no DP mechanism is in this package."""
