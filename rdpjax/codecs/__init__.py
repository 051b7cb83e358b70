"""Codecs: how each kind of record becomes a table of public cells, and back."""
