"""Experiments that try to break the claim: each gives a lower bound, or compares with a bound."""
