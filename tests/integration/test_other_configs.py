"""The configs of several modalities, several dates and RGB pictures run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.integration.conftest import BRIEF, CONFIGS, Terratorch
from tests.rasters import landscape, write_raster

SIZE = 64
TILES = 2


def _labels(index: int, classes: int) -> np.ndarray[Any, Any]:
    """Vertical stripes of 0, where there is no label, to the last class."""
    columns = (np.arange(SIZE) + 7 * index) // 4 % (classes + 1)
    return np.broadcast_to(columns, (1, SIZE, SIZE))


def _modalities(folder: Path) -> None:
    """TerraMesh's layout and types: one folder a modality, one file name a place."""
    for index in range(TILES):
        name = f"tile_{index}.tif"
        optical = landscape(12, SIZE, seed=index)
        write_raster(folder / "S2L2A" / name, optical, dtype="int16")
        write_raster(folder / "S1RTC" / name, -optical[:2] / 200, dtype="float64")
        write_raster(folder / "DEM" / name, optical[:1] / 10, dtype="int16")
        write_raster(folder / "labels" / name, _labels(index, 9), dtype="uint8")


def _crops(folder: Path, dates: dict[str, str]) -> None:
    """The layout of multi-temporal-crop-classification: the six bands of a date, then the next."""
    lines = [",".join(["chip_id", *dates])]
    for split in ("training", "validation"):
        chips = [f"chip_{split}_{index}" for index in range(TILES)]
        for index, chip in enumerate(chips):
            stem = folder / f"{split}_chips" / chip
            frames = landscape(6 * len(dates), SIZE, seed=index)
            write_raster(stem.with_name(f"{chip}_merged.tif"), frames, dtype="int16")
            mask = stem.with_name(f"{chip}.mask.tif")
            write_raster(mask, _labels(index, 13), dtype="uint8", nodata=0)
            lines.append(",".join([chip, *dates.values()]))
        (folder / f"{split}_data.txt").write_text("\n".join(chips))
    (folder / "chips_df.csv").write_text("\n".join(lines))


def _three_dates(folder: Path) -> None:
    days = {"first": "2022-03-02", "middle": "2022-06-25", "last": "2022-09-13"}
    _crops(folder, {f"{which}_img_date": day for which, day in days.items()})


def _pictures(folder: Path) -> None:
    """EuroSAT's layout: one folder a class, of pictures smaller than the backbone reads."""
    for index in range(10):
        picture = np.moveaxis(landscape(3, 32, seed=index) / 20, 0, -1).astype("uint8")
        (folder / f"class_{index}").mkdir(parents=True)
        Image.fromarray(picture).save(folder / f"class_{index}" / "picture.jpg")


@dataclass(frozen=True)
class Case:
    """A config, what lays its data out, and where its backbone has how many blocks."""

    name: str
    lay_out: Callable[[Path], None]
    blocks: str
    full: int
    kept: int

    @property
    def config(self) -> Path:
        return CONFIGS / f"{self.name}.yaml"

    @property
    def pruned(self) -> Path:
        return CONFIGS / f"{self.name}_simpler.yaml"


DATES = Case("prithvi_300/multitemporal", _three_dates, "blocks", 24, 5)
CASES = [
    DATES,
    Case("terramind/segmentation", _modalities, "encoder", 12, 6),
    Case("terramind/segmentation_tim", _modalities, "encoder", 12, 6),
    Case("vit_mae/classification", _pictures, "model.blocks", 12, 6),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
pruned_only = pytest.mark.parametrize("pruned", [True], ids=["pruned"])


def _fit(terratorch: Terratorch, config: str, folder: Path) -> Any:
    """Train a step on the data in a folder; without pre-trained weights, which are a download."""
    offline = folder / "task.yaml"
    config = config.replace("pretrained: true", "pretrained: false")
    # The base has half a billion weights: three transformers and a tokenizer.
    config = config.replace("terramind_v1_base_tim", "terramind_v1_tiny_tim")
    offline.write_text(re.sub(r"data/(train|val|test|multi[\w-]+)", str(folder / "data"), config))
    fitted = terratorch(
        "fit", "-c", offline, *BRIEF,
        f"--data.init_args.batch_size={TILES}", "--data.init_args.num_workers=0",
        "--trainer.fast_dev_run=true",
    )  # fmt: skip
    assert fitted.trainer.global_step == 1
    assert torch.isfinite(fitted.trainer.callback_metrics["train/loss"])
    return fitted


@pytest.mark.slow
@every_case
@pruned_only
def test_the_config_trains_a_step(
    case: Case, pruned: bool, terratorch: Terratorch, tmp_path: Path
) -> None:
    case.lay_out(tmp_path / "data")
    config = case.pruned if pruned else case.config
    fitted = _fit(terratorch, config.read_text(), tmp_path)
    blocks = fitted.model.model.encoder.get_submodule(case.blocks)
    assert len(blocks) == (case.kept if pruned else case.full)
    if case is DATES:
        _check_coordinates(fitted, frames=3)


@pytest.mark.slow
@pruned_only
def test_four_dates(
    pruned: bool, terratorch: Terratorch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as Prithvi was pre-trained with; TerraTorch's data set fixes three."""
    from terratorch.datasets import MultiTemporalCropClassification

    dates = {f"date_{month}": f"2022-{month:02}-15" for month in (2, 5, 8, 11)}
    monkeypatch.setattr(MultiTemporalCropClassification, "date_columns", list(dates))
    _crops(tmp_path / "data", dates)
    config = (DATES.pruned if pruned else DATES.config).read_text()
    for old, new in (
        ("backbone_num_frames: 3", "backbone_num_frames: 4"),
        ("effective_time_dim: 3", "effective_time_dim: 4"),
        ("prithvi_eo_v2_300_tl", "prithvi_eo_v2_tiny_tl"),
        ("[5, 11, 17, 23]", "[2, 5, 8, 11]"),
    ):
        assert old in config
        config = config.replace(old, new)
    _check_coordinates(_fit(terratorch, config, tmp_path), frames=4)


def _check_coordinates(fitted: Any, frames: int) -> None:
    """The batches hold dates and a place, and the backbone reads both."""
    sample = fitted.datamodule.train_dataset[0]
    assert sample["image"].shape == (6, frames, SIZE, SIZE)
    assert sample["temporal_coords"].shape == (frames, 2)
    assert sample["location_coords"].tolist() == pytest.approx([52.3, 13.5], abs=0.1)
    encoder = fitted.model.model.encoder.eval()
    image = sample["image"][None].float()
    coordinates = {key: sample[key][None] for key in ("temporal_coords", "location_coords")}
    with torch.no_grad():
        neither, when, where = (
            encoder(image, **{key: coordinates[key] for key in keys})[-1]
            for keys in ((), ("temporal_coords",), ("location_coords",))
        )
    assert not torch.allclose(when, neither)
    assert not torch.allclose(where, neither)
    assert not torch.allclose(when, where)


@every_case
def test_the_pruned_config_differs_only_in_backbone_and_callback(case: Case) -> None:
    full, pruned = (yaml.safe_load(path.read_text()) for path in (case.config, case.pruned))
    assert pruned["trainer"].pop("callbacks") == [
        {"class_path": "terratorch_simpler.SimplerCallback"}
    ]
    arguments = pruned["model"]["init_args"]["model_args"]
    assert arguments.pop("backbone_keep_blocks") == case.kept
    arguments["backbone"] = arguments["backbone"].removeprefix("simpler_")
    assert pruned == full
