"""Clipped sums without per-example gradients: norms from activations and signals."""
