"""Codecs: encode each kind of record as a table of public bins, and decode it back."""
