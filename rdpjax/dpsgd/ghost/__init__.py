"""Ghost clipping: clipped sums without per-example gradients, from activations and signals."""
