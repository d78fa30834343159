"""Full backbones: built by name, loaded with their weights, and what their family is."""
