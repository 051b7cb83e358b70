"""Evaluation of synthetic against real records: fidelity, utility, figures. None of it is DP."""
