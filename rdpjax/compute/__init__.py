"""Compute resources of a run: the devices of a machine, and several processes."""
