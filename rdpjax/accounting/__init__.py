"""Accounting beyond a fit: statements, curves, comparison and verification of accountants."""
