"""Audit with many canaries in one training."""
