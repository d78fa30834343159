"""Tiles: found, read from GeoTIFF files or taken from a datamodule, and checked."""

from typing import Literal

MIN_TILES = 4
"""Fewer tiles than this say nothing of a backbone."""
DEFAULT_SAMPLES = 512
"""Most tiles that are used unless another number is named."""
Pooling = Literal["tokens", "mean"]
"""What the samples of a tile are at a layer: some of its patch tokens, or their one mean."""
