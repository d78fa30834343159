"""How a datamodule makes tiles of pixels: bands, means, deviations, what replaces no data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from terratorch_simpler.bands import band_names

IMAGE = "image"
"""What the one input is called, where there are no modalities."""


def preprocessing_of(datamodule: object, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """How the pixels of a task become the numbers that its model reads.

    Args:
        datamodule: The task's.
        model_args: What its model factory takes.

    Returns:
        ``inputs``, with ``bands``, ``means`` and ``stds`` by modality (``image`` where there is
        none), and ``no_data_replace``; what cannot be told is None. Plain data, for a checkpoint.
    """
    aug = getattr(datamodule, "aug", None)
    means, stds = getattr(aug, "means", None), getattr(aug, "stds", None)
    bands = model_args.get("backbone_bands", model_args.get("bands"))
    bands = bands or getattr(datamodule, "output_bands", None)
    names = [*means] if isinstance(means, Mapping) else [IMAGE]
    scale = float(getattr(aug, "max_pixel_value", None) or 1)
    return {
        "inputs": {
            name: {
                "bands": band_names(_of(bands, name)),
                "means": _numbers(_of(means, name), scale),
                "stds": _numbers(_of(stds, name), scale),
            }
            for name in names
        },
        "no_data_replace": _number(getattr(datamodule, "no_data_replace", None)),
    }


def _of(value: Any, name: str) -> Any:
    """What belongs to one modality."""
    return value.get(name) if isinstance(value, Mapping) else value


def _numbers(value: Any, scale: float) -> list[float] | None:
    """One number a band; None where there is none, or one a frame."""
    if value is None:
        return None
    found = np.asarray(value, dtype=float)
    return [scale * number for number in found.tolist()] if found.ndim == 1 else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
