"""Tiles: found, read from GeoTIFF files or taken from a datamodule, and checked."""
