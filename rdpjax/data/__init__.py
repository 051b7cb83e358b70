"""Records and what is public about them: schemas, readers, codecs, the simulated cohort."""
