from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from terratorch_simpler.backbones.backbone import Backbone
from terratorch_simpler.backbones.families import find_family
from terratorch_simpler.tiles.checks import check_images
from terratorch_simpler.tiles.units import InputStatistics
from tests.rasters import landscape

MEANS = [1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0]
STDS = [2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0]
"""What Prithvi-EO-2 was pre-trained with."""


def warning(
    images: NDArray[Any], means: list[float] = MEANS, stds: list[float] = STDS, told: bool = True
) -> str | None:
    """What is said of images [B, bands, H, W] in the units of their files.

    With ``told`` the statistics know what the images were normalised with, as for chips; without,
    they come normalised, as from a datamodule.
    """
    mean, std = (np.array(values)[None, :, None, None] for values in (means, stds))
    normalised = torch.from_numpy(((images - mean) / std).astype(np.float32))
    published = means is MEANS
    statistics = InputStatistics(None, None)
    if told:
        statistics = InputStatistics(means, stds, published=published)
    for batch in normalised.chunk(2):
        statistics.update(batch)
    return statistics.warning()


def tiles(mean: float = 0.0, share: float = 1.0) -> NDArray[np.float32]:
    """Four landscapes; with a share below 1 closer to their mean, moved to ``mean``."""
    images = np.stack([landscape(6, 64, seed=seed) for seed in range(4)])
    if not mean:
        return images
    centre = images.mean(axis=(0, 2, 3), keepdims=True)
    moved: NDArray[np.float32] = ((images - centre) * share + mean).astype(np.float32)
    return moved


def dim() -> NDArray[np.float32]:
    """Reflectance x 10000 of forest and water, down to 0."""
    return np.clip(tiles(400, 0.4), 1, None)


def snow() -> NDArray[np.float32]:
    """Bright and even in the visible, dark in the short-wave infrared."""
    levels = np.array([9200, 9100, 9000, 8300, 900, 700])[None, :, None, None]
    return (levels + (tiles(1, 0.3) - 1)).astype(np.float32)


def water() -> NDArray[np.float32]:
    """Dark and even; a few pixels of sun glint."""
    levels = np.array([420, 300, 180, 110, 60, 40])[None, :, None, None]
    images = np.clip(levels + (tiles(1, 0.05) - 1), 1, None)
    return images.astype(np.float32)


@pytest.mark.parametrize("told", [True, False], ids=["chips", "datamodule"])
@pytest.mark.parametrize(
    "images",
    [tiles(), tiles(600, 0.2), tiles(5000), snow(), water()],
    ids=["landscape", "dim and even", "bright", "snow", "water"],
)
def test_nothing_is_said_of_tiles_in_the_right_units(images: NDArray[Any], told: bool) -> None:
    assert warning(images, told=told) is None


@pytest.mark.parametrize(
    ("images", "cause"),
    [
        (
            tiles() / 10_000,
            r"values of 0\.\d+ to 0\.\d+ look like reflectance in 0..1; multiply by",
        ),
        (tiles() / 10_000 - 0.1, "look like reflectance in 0..1"),
        (np.clip(np.round(tiles() / 16), 0, 255), "look like 8-bit digital numbers; give means"),
        (10 * np.log10(tiles() / 20_000), r"values of -\d+.* look like decibels; give means and s"),
        (tiles() / 100 + 0.003, "look like reflectance in per cent; multiply by 100"),
        (tiles() * 65_000, r"values of .* do not fit the means 1087, 1342, .*; give means and st"),
    ],
    ids=["reflectance", "offset reflectance", "8 bit", "decibels", "per cent", "far too large"],
)
def test_the_likely_cause_is_named(images: NDArray[Any], cause: str) -> None:
    message = warning(images)
    assert message is not None
    assert message.startswith("after normalisation the tiles have a mean of ")
    assert "(about 0 and 1 are expected)" in message
    assert re.search(cause, message), message


@pytest.mark.parametrize(
    ("images", "cause"),
    [
        (
            np.round((dim() / 10_000 + 0.2) / 0.0000275),
            r"no value of the tiles in any band is below [23]\.\d .*look like digital numbers of "
            "Landsat Collection 2 Level 2; rescale them",
        ),
        (
            np.round((dim() / 10_000 + 0.1) / 0.00002),
            "digital numbers of Landsat Level 1;",
        ),
    ],
    ids=["level 2", "level 1"],
)
def test_numbers_that_are_near_the_mean_and_still_wrong(images: NDArray[Any], cause: str) -> None:
    """Their mean is less than 4 standard deviations off: only that nothing is dark tells."""
    message = warning(images)
    assert message is not None
    assert re.search(cause, message), message
    own = [float(value) for value in images.mean(axis=(0, 2, 3))]
    spread = [float(value) for value in images.std(axis=(0, 2, 3))]
    assert warning(images, means=own, stds=spread) is None


def test_an_offset_of_1000_is_noticed() -> None:
    dark = np.clip(np.round(tiles(500, 1)), 1, None)
    assert warning(dark) is None
    message = warning(dark + 1000)
    assert message is not None
    assert re.search(r"no value of the tiles lies below 100\d: Sentinel-2 adds 1000", message)
    # Statistics that the user gave are made for these files.
    assert warning(dark + 1000, means=list(MEANS), stds=list(STDS)) is None


def test_values_that_no_reflectance_has() -> None:
    images = tiles()
    images[1, 2, 3, 4] = -9999
    message = warning(images)
    assert message is not None
    assert "hold values down to -9999, which is no reflectance: declare it as nodata" in message


def test_statistics_in_other_units_than_the_tiles() -> None:
    message = warning(tiles(), means=[0.1087] * 6, stds=[0.2248] * 6)
    assert message is not None
    assert "do not fit the means 0.1087, 0.1087," in message


@pytest.mark.parametrize(
    "images", [tiles() / 10_000, 10 * np.log10(tiles() / 20_000), tiles() * 65_000]
)
def test_images_of_a_datamodule_in_other_units(images: NDArray[Any]) -> None:
    message = warning(images, told=False)
    assert message is not None
    assert "check the means and stds of the datamodule against the units of the images" in message


def test_statistics_do_not_depend_on_batches_or_frames() -> None:
    images = torch.randn(6, 3, 2, 16, 16, generator=torch.Generator().manual_seed(0)) * 40
    messages = set()
    for size in (1, 4, 6):
        statistics = InputStatistics(None, None)
        for start in range(0, 6, size):
            statistics.update(images[start : start + size])
        messages.add(statistics.warning())
    assert len(messages) == 1
    assert "spread of 40." in str(messages.pop())


def test_one_odd_band_is_no_reason_to_warn() -> None:
    images = tiles()
    images[:, 5] = 1
    assert warning(images) is None


# Images that the backbone cannot read


@pytest.fixture(scope="module")
def prithvi(tiny_prithvi: nn.Module) -> Backbone:
    return Backbone(tiny_prithvi, *find_family(tiny_prithvi), "prithvi_eo_v2_tiny_tl")


@pytest.mark.parametrize("shape", [(2, 6, 32, 32), (2, 6, 1, 32, 32)], ids=["image", "frames"])
def test_images_that_fit(prithvi: Backbone, shape: tuple[int, ...]) -> None:
    check_images(torch.zeros(shape), prithvi)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            lambda: {"S2L2A": torch.zeros(2, 6, 32, 32)},
            "reads one image, the batch holds the modalities S2L2A",
        ),
        (lambda: torch.zeros(2, 5, 32, 32), r"reads 6 bands, the tiles have shape \[5, 32, 32\]"),
        (lambda: torch.zeros(6, 32, 32), r"reads one image, the batch holds a tensor \[6, 32, 32"),
        (lambda: torch.zeros(2, 6, 8, 32), r"tiles of \[8, 32\] px are smaller than a patch \(16"),
    ],
    ids=["modalities", "bands", "no batch", "small"],
)
def test_images_that_do_not_fit(prithvi: Backbone, images: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_images(images(), prithvi)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_holes_are_refused(value: float) -> None:
    images = torch.zeros(2, 6, 32, 32)
    images[1, 3, 4, 5] = value
    with pytest.raises(ValueError, match=r"the tiles hold NaN or infinity: .*no_data_replace"):
        InputStatistics(None, None).update(images)
    with pytest.raises(ValueError, match=r"the tiles b.tif hold NaN or infinity: replace them"):
        InputStatistics(None, None).update(images, ["a.tif", "b.tif"])


def test_sums_that_overflow_are_no_holes() -> None:
    InputStatistics(None, None).update(torch.full((1, 1, 32, 32), 3e38))
