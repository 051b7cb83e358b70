"""Mechanisms: sensitivity, event and noisy answer in one object."""
