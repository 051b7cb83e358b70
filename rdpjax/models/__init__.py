"""Flax networks and per-example losses. No privacy in here."""
