"""File formats: bytes to columns and back, independent of records, schemas and runs."""
