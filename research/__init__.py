"""Finished studies: each answered one question once, and its answer is recorded."""
