"""Tiles that are fed wrongly, as can happen to a user: the same config with one mistake."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Config = dict[str, Any]
REFLECTANCE, EIGHT_BIT = 10_000.0, 255.0
"""What is divided by, to bring values to 0..1."""


def as_trained(config: Config) -> Config:
    """The config as it is."""
    return config


def scaled_twice(config: Config) -> Config:
    """Tiles that were brought to 0..1, and normalised with statistics of what they were before."""
    config = copy.deepcopy(config)
    data = config["data"]["init_args"]
    scale = EIGHT_BIT if max(data["means"]) < EIGHT_BIT else REFLECTANCE
    # (x / s - m) / d without touching the files.
    data["means"] = [mean * scale for mean in data["means"]]
    data["stds"] = [std * scale for std in data["stds"]]
    return config


def bands_reversed(config: Config) -> Config:
    """Bands in reverse, normalised with the statistics of the right order."""
    config = copy.deepcopy(config)
    data = config["data"]["init_args"]
    data["output_bands"] = data["output_bands"][::-1]
    return config


FED: dict[str, Callable[[Config], Config]] = {
    "as trained": as_trained,
    "scaled twice": scaled_twice,
    "bands reversed": bands_reversed,
}
