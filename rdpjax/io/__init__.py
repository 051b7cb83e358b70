"""Bytes to columns and back, once for all data sets; it knows no record, schema or run."""
