"""Differentially private stochastic gradient descent on any `loss(params, example, key)`."""
