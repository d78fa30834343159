"""A TerraTorch task's config: read, built and rewritten."""
