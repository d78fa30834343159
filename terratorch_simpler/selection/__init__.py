"""From tiles to a depth: the pass, its groups, the decision and how sure it is."""
