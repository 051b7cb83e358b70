"""Mechanisms: a sensitivity, an event and a noisy answer, in one object."""
