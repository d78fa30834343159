from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import rasterio
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import nn

from studies.measure import certainty, layers, norms
from studies.measure.cheaper import compare, halve
from studies.measure.choices import SHUFFLES, choices
from studies.measure.data import IGNORE, lay_out
from studies.measure.precisions import precisions
from studies.measure.signs import effective_dimension, signs
from studies.show import choice_tables
from terratorch_simpler.criteria import CRITERIA, OF_SIMILARITY
from terratorch_simpler.layers.statistics import STATISTICS
from terratorch_simpler.similarity import linear_cka


def test_flood_chips_are_laid_out(tmp_path: Path) -> None:
    source = tmp_path / "sources" / "hls_flood"
    for folder in ("images", "labels", "aux"):
        (source / folder).mkdir(parents=True)
    rows = [("000", "train", "0.5"), ("001", "test", ""), ("002", "val", "0.05")]
    with (source / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["chip", "split", "mndwi_gap"])
        writer.writerows(rows)
    for name, _, _ in rows:
        _write(source / "images" / f"{name}.tif", np.full((6, 8, 8), 7, np.int16))
        cover = np.full((2, 8, 8), 80, np.uint8)
        cover[1, 0, 0] = 17
        _write(source / "aux" / f"{name}.tif", cover)
        Image.fromarray(np.ones((8, 8), np.uint8)).save(source / "labels" / f"{name}.png")
    output = tmp_path / "data"
    lay_out(tmp_path / "sources", output)
    files = sorted(str(path.relative_to(output)) for path in output.rglob("*.tif"))
    assert files == [
        f"hls_flood/{split}/{kind}/{name}.tif"
        for split, name in (("test", "001"), ("train", "000"))
        for kind in ("images", "water", "worldcover")
    ]
    with rasterio.open(output / "hls_flood/train/worldcover/000.tif") as file:
        cover = file.read(1)
    assert cover[0, 0] == IGNORE
    assert (np.delete(cover.ravel(), 0) == 7).all()
    with pytest.raises(FileExistsError):
        lay_out(tmp_path / "sources", output)


def _write(path: Path, data: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    count, height, width = data.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=data.dtype
    ) as file:
        file.write(data)


def test_certainty_of_layers_that_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight layers of which the last five are alike: every shuffle stops early, and is right."""
    monkeypatch.setattr(certainty, "SHUFFLES", 5)
    rng = torch.Generator().manual_seed(0)
    layers = [torch.randn(512, 4, 6, generator=rng)]
    for layer in range(1, 9):
        step = 1.0 if layer < 4 else 0.01
        layers.append(layers[-1] + step * torch.randn(512, 4, 6, generator=rng))
    rows = list(certainty.study("task", "model", torch.stack(layers, dim=1)))
    grouped = [row for row in rows if isinstance(row, certainty.Grouped)]
    assert {row.tiles_per_group for row in grouped} == set(certainty.GROUP_SIZES)
    for criterion in certainty.CHOOSES:
        assert len({row.depth for row in grouped if row.criterion == criterion}) == 1
    stops = [row for row in rows if isinstance(row, certainty.Stop)]
    assert [(row.stopped, row.agree, row.mean_tiles) for row in stops] == [(5, 5, 128.0)] * 2
    stated = [row for row in rows if isinstance(row, certainty.Stated)]
    assert all(row.statements == row.right == 5 for row in stated)
    assert {row.tiles for row in stated} == {128, 256}


def test_choices_of_layers_that_settle() -> None:
    """Eight layers, all alike from the third on: whatever the draw, three are kept."""
    rng = torch.Generator().manual_seed(0)
    walk = [torch.randn(96, 4, 6, generator=rng)]
    for layer in range(1, 9):
        new = torch.randn(96, 4, 6, generator=rng)
        walk.append(new if layer < 4 else walk[-1] + 0.01 * new)
    rows = list(choices("task", "model", "tokens", torch.stack(walk, dim=1)))
    assert {row.tiles for row in rows} == {32, 64, 96}
    for tiles in (32, 64, 96):
        for criterion in OF_SIMILARITY:
            of = [row for row in rows if (row.tiles, row.criterion) == (tiles, criterion)]
            assert sum(row.times for row in of) == SHUFFLES
    stable = {row.depth for row in rows if row.criterion == "stabilization"}
    assert stable == {3}


def test_a_final_norm_is_dropped_or_changed() -> None:
    encoder = nn.Module()
    encoder.norm = nn.LayerNorm(2)
    task = nn.Module()
    task.model = nn.Module()
    task.model.encoder = encoder
    norms.FinalNorm([2.0, 3.0], [4.0, 5.0]).setup(Trainer(), cast(Any, task), "test")
    assert encoder.norm.weight.tolist() == [1.0, 1.0]
    norms.FinalNorm([2.0, 3.0], [4.0, 5.0]).setup(Trainer(), cast(Any, task), "fit")
    assert encoder.norm.weight.tolist() == [2.0, 3.0]
    assert encoder.norm.bias.tolist() == [4.0, 5.0]
    norms.FinalNorm().setup(Trainer(), cast(Any, task), "fit")
    assert isinstance(encoder.norm, nn.Identity)


def test_the_last_output_is_scaled_by_channel() -> None:
    class Encoder(nn.Module):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image, image + 1]

    task = nn.Module()
    task.model = nn.Module()
    task.model.encoder = Encoder()
    callback = norms.LastOutput([2.0, 3.0], [4.0, 5.0])
    for stage in ("fit", "test"):
        callback.setup(Trainer(), cast(Any, task), stage)
    first, last = task.model.encoder(torch.zeros(1, 2, 1, 1))
    assert first.flatten().tolist() == [0.0, 0.0]
    assert last.flatten().tolist() == [6.0, 8.0]


def test_the_effective_dimension_counts_directions() -> None:
    """By definition: one direction, three of equal variance, and the eigenvalues of numpy."""
    rng = torch.Generator().manual_seed(0)
    line = torch.randn(50, 1, generator=rng) @ torch.randn(1, 6, generator=rng) + 3
    assert effective_dimension(line) == pytest.approx(1)
    corners = torch.cat((torch.eye(3), -torch.eye(3)))
    assert effective_dimension(corners) == pytest.approx(3)
    cloud = torch.randn(50, 6, generator=rng)
    variances = np.linalg.eigvalsh(np.cov(cloud.double().numpy(), rowvar=False))
    expected = variances.sum() ** 2 / (variances**2).sum()
    assert effective_dimension(cloud) == pytest.approx(expected)


def test_signs_of_layers() -> None:
    rng = torch.Generator().manual_seed(0)
    line = torch.randn(40, 1, 4 + 16, 1, generator=rng) @ torch.ones(1, 6)
    others = torch.randn(40, 5, 4 + 16, 6, generator=rng)
    row = signs("task", "model", "as trained", torch.cat((line, others, line), dim=1))
    assert (row.task, row.model, row.fed, row.tiles) == ("task", "model", "as trained", 32)
    assert row.first_to_last == pytest.approx(1, abs=1e-3)
    assert (row.dimension_first, row.dimension_last) == (1, 1)
    assert 5 < row.dimension_most <= 6


def test_a_choice_in_both_precisions() -> None:
    """The second pass is the first one backwards, which turns the matrix about its middle."""
    samples = torch.randn(20, 7, 4, 6, generator=torch.Generator().manual_seed(0)).cumsum(1)
    same = list(precisions("task", "model", samples, samples))
    assert [row.criterion for row in same] == list(OF_SIMILARITY)
    assert all((row.tiles, row.difference) == (16, 0) for row in same)
    assert all(row.depth == row.depth_bf16 for row in same)
    backwards = list(precisions("task", "model", samples, samples.flip(1)))
    assert [row.depth for row in backwards] == [row.depth for row in same]
    assert any(row.depth != row.depth_bf16 for row in backwards)
    layers = samples[:16].transpose(0, 1).flatten(1, 2).double()
    matrix = np.array([[linear_cka(one, other).item() for other in layers] for one in layers])
    expected = np.abs(matrix - matrix[::-1, ::-1]).max()
    assert backwards[0].difference == pytest.approx(expected, abs=1e-4)
    other = next(row for row in backwards if row.depth != row.depth_bf16)
    assert f" {other.depth} → {other.depth_bf16} " in choice_tables.precisions(backwards)


def test_smaller_tiles_against_the_tiles_themselves() -> None:
    samples = torch.randn(150, 7, 4, 6, generator=torch.Generator().manual_seed(0)).cumsum(1)
    same = list(compare("task", "model", samples, samples))
    assert [row.criterion for row in same] == list(OF_SIMILARITY)
    for row in same:
        assert (row.tiles, row.draws, row.same) == (128, 100, 100)
        assert (row.halved, row.halved_agree) == (row.depth, row.agree)
    backwards = list(compare("task", "model", samples, samples.flip(1)))
    other = next(row for row in backwards if row.halved != row.depth)
    assert other.same < 100
    shown = f" {other.depth} ({other.agree}%) | {other.halved} ({other.halved_agree}%) "
    assert shown in choice_tables.cheaper(backwards)


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 3, 4, 8, 6)], ids=["image", "frames"])
def test_tiles_are_halved(shape: tuple[int, ...]) -> None:
    image = torch.randn(shape)
    (small,) = halve(nn.Identity(), (image,))
    assert small.shape == (*shape[:-2], 4, 3)
    assert torch.allclose(small[..., 1, 2], image[..., 2:4, 4:6].mean(dim=(-2, -1)))


def test_choices_by_statistics_of_layers() -> None:
    """Tokens side by side become alike in the third block: that rise is what is kept."""
    rng = torch.Generator().manual_seed(0)
    samples = torch.randn(48, 6, 16 + 4 * 4, 12, generator=rng)
    anchors = samples[:, 3:, :4, None]
    beside = samples[:, 3:, 16:].unflatten(2, (4, 4))[:, :, :, :2]  # type: ignore[no-untyped-call]
    beside.copy_(anchors + 0.1 * beside)
    rows = list(layers.choices("task", "model", samples))
    assert {row.criterion for row in rows} == CRITERIA.keys() - OF_SIMILARITY.keys()
    assert {row.depth for row in rows if row.criterion.startswith("spatial")} == {3}
    assert all(row.tiles in (32, 48) for row in rows)
    curves = list(layers.curves("task", "model", samples))
    assert {row.statistic for row in curves} == set(STATISTICS)
    contrast = [row.value for row in curves if row.statistic == "spatial_contrast"]
    assert min(contrast[3:]) > 0.5 > 0.2 > max(contrast[:3])
