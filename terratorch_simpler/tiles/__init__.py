"""Tiles: found, read from GeoTIFF files or taken from a datamodule, and checked."""

from typing import Literal, get_args

MIN_TILES = 4
"""Fewer tiles than this say nothing of a backbone."""
DEFAULT_SAMPLES = 512
"""Most tiles that are used unless another number is named."""
Pooling = Literal["tokens", "mean"]
"""What the samples of a tile are at a layer: some of its patch tokens, or their one mean."""

Mask = Literal["scl", "fmask", "qa_pixel"]
"""A quality layer of a provider that can mask cloud, shadow and snow."""


def check_sampling(pooling: str, tokens: int) -> None:
    """Refuse a pooling that does not exist, or no tokens to draw.

    Raises:
        ValueError: With the value.
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling must be tokens or mean, got {pooling!r}")
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, got {tokens}")
