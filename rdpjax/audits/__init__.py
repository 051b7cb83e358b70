"""Audits of the (epsilon, delta) claim: lower bounds on epsilon, and deterministic comparisons."""
