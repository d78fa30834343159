"""The outputs of all blocks of a backbone: read by hooks, sampled, and given out as features."""
