"""Generators by name: recipes of stages, one file each."""
