"""Files of weights, read as builders of TerraTorch read them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def by_torch(path: Path) -> Any:
    """What ``torch.load`` gives, mapped into memory where the file's format allows.

    Raises:
        Exception: As ``torch.load``, which raises all kinds of things.
    """
    mapped = zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def unwrapped(path: Path) -> Any:
    """The same, or what is under the key where TerraTorch looks for weights.

    Raises:
        Exception: As :func:`by_torch`.
    """
    from terratorch.models.backbones.select_patch_embed_weights import get_state_dict

    content = by_torch(path)
    return get_state_dict(content) if isinstance(content, Mapping) else content
