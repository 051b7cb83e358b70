"""Canaries in one gradient step."""
