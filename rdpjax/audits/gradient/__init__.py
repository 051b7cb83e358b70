"""Audit with canaries in the gradient of every step."""
