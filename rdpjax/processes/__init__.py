"""Several processes in one run: they join, agree, share, and end together."""
