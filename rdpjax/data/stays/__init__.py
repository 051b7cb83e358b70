"""Patients and their hours: files, the two-level codec, releases."""
