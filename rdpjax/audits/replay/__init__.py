"""Deterministic audit: replay a plan with known keys, and compare every number."""
