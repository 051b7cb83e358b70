"""The stages of a run, one file each. A stage says what it reads, trains and releases."""
