"""Data sets: reading, encoding, writing and evaluation of their records; one file each."""
