"""Real against synthetic: fidelity, utility, figures. None of it is private."""
