"""Measured claims: what pruning saves and what selection costs, as ratios within one run."""
