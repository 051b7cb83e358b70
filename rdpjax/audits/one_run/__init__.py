"""Canaries in one training."""
