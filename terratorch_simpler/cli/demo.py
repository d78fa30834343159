"""``terratorch-simpler demo``."""
