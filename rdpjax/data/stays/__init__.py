"""Patients and their hourly stays: files, the two-level codec, releases."""
