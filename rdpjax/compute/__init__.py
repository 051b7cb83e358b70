"""Where a run computes: the devices of a machine, and several processes."""
