"""Quality layers of providers: which pixels they call cloud, shadow or snow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from terratorch_simpler.tiles import Mask

Flags = NDArray[np.bool_]

_SCL_HIDDEN = (1, 3, 8, 9, 10, 11)
"""Saturated, cloud shadow, cloud of medium and high probability, cirrus, snow (Sentinel-2 L2A)."""
_FMASK_HIDDEN = 0b0001_1111
"""Cirrus, cloud, beside cloud or shadow, cloud shadow, snow (HLS v2.0)."""
_QA_PIXEL_HIDDEN = 0b0011_1111
"""Fill, dilated cloud, cirrus, cloud, cloud shadow, snow (Landsat Collection 2)."""
_BYTE_FILL = 255


@dataclass(frozen=True)
class QualityLayer:
    """A layer of a product that says what each pixel is.

    Attributes:
        label: The last part of its file's name.
        hides: From its values, whether the ground cannot be seen.
    """

    label: str
    hides: Callable[[NDArray[Any]], Flags]


def _scl(values: NDArray[Any]) -> Flags:
    return np.isin(values, _SCL_HIDDEN)


def _fmask(values: NDArray[Any]) -> Flags:
    return np.asarray((values & _FMASK_HIDDEN != 0) | (values == _BYTE_FILL))


def _qa_pixel(values: NDArray[Any]) -> Flags:
    return np.asarray(values & _QA_PIXEL_HIDDEN != 0)


QUALITY_LAYERS: Mapping[Mask, QualityLayer] = {
    "scl": QualityLayer("SCL", _scl),
    "fmask": QualityLayer("Fmask", _fmask),
    "qa_pixel": QualityLayer("QA_PIXEL", _qa_pixel),
}


def check_mask(mask: str | None) -> None:
    """Refuse a mask that does not exist.

    Raises:
        ValueError: With those that do.
    """
    if mask is not None and mask not in get_args(Mask):
        raise ValueError(f"mask must be {', '.join(get_args(Mask))} or left out, got {mask!r}")
