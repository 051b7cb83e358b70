"""Training stages of a run, one file each, with their inputs, objectives and released params."""
