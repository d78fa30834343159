"""Full backbones: built by name, loaded with their weights, and what their family is."""

SOURCE = "simpler"
"""Prefix of pruned backbones in TerraTorch's registry."""
BY_STRUCTURE = "ViT by structure"
"""Family of the backbones whose list of blocks a rule finds, or the user names."""
