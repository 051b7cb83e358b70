"""Generators by name: recipes of training stages, one file each."""
