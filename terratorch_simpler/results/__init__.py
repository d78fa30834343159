"""What a command finds, as frozen records: plan, probe and the words for both."""

SOURCE = "simpler"
"""Prefix of pruned backbones in TerraTorch's registry."""
BY_STRUCTURE = "ViT by structure"
"""Family of the backbones whose list of blocks a rule finds, or the user names."""
