"""Records and their public description: schemas, readers, encoders, simulated cohorts."""
