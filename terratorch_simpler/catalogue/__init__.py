"""Which names of TerraTorch's registry can be cut: looked at once, and kept."""
