"""A plan replayed with known keys, number by number."""
