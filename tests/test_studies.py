from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import rasterio
import torch
import yaml
from lightning.pytorch import Trainer
from PIL import Image
from torch import nn

from studies import certainty, frontier, norms, run
from studies.choices import SHUFFLES, Choice, choices
from studies.compare import compare
from studies.compose import Folders, compose, fits, metric_of, models, tasks
from studies.data import IGNORE, lay_out
from studies.figure import retention_figure
from studies.methods import FIRST
from studies.page import PAGE, filled
from studies.page import tables as tables_of_results
from studies.probes import Probed
from studies.retention import curves, judge, matters, ranked
from studies.run import Cell, Row, cells_of, configure, run_study
from studies.tables import read_csv
from terratorch_simpler.criteria import CRITERIA

FOLDERS = Folders(Path("sources"), Path("data"), Path("weights"))
STUDY = {
    "seeds": [0, 1],
    "grids": [
        {"tasks": ["eurosat", "flood_water"], "models": ["mae12", "dinov2"], "depths": [2, 12, 24]},
        {"tasks": ["eurosat"], "models": ["dinov2"], "depths": [4], "methods": ["lora", "frozen"]},
    ],
}


@pytest.mark.parametrize("task", tasks())
def test_every_task_has_a_model_and_a_config(task: str) -> None:
    fitting = [model for model in models() if fits(task, model)]
    assert fitting
    for model in fitting:
        config = compose(task, model, FOLDERS, seed=3)
        arguments = config["model"]["init_args"]["model_args"]
        assert arguments["backbone"] == models()[model]["model_args"]["backbone"]
        assert config["seed_everything"] == 3
        assert "$" not in yaml.safe_dump(config)
    assert metric_of(task).startswith("test/")


@pytest.mark.parametrize("task", tasks())
def test_the_learning_rate_falls_until_the_last_epoch(task: str) -> None:
    model = next(model for model in models() if fits(task, model))
    config = compose(task, model, FOLDERS)
    schedule = config["model"]["init_args"]["scheduler_hparams"]
    assert schedule == {"T_max": config["trainer"]["max_epochs"]}


def test_a_cut_changes_the_backbone_alone() -> None:
    full = configure(Cell("flood_water", "mae12", FIRST, 12, 0), FOLDERS)
    assert full == compose("flood_water", "mae12", FOLDERS)
    cut = configure(Cell("flood_water", "mae12", FIRST, 4, 0), FOLDERS)
    arguments = cut["model"]["init_args"]["model_args"]
    assert arguments.pop("backbone_keep_blocks") == 4
    arguments["backbone"] = arguments["backbone"].removeprefix("simpler_")
    assert cut == full


@pytest.mark.parametrize("method", ["lora", "frozen"])
def test_what_is_trained_of_the_encoder(method: str) -> None:
    full = configure(Cell("eurosat", "dinov2", method, 12, 0), FOLDERS)["model"]["init_args"]
    cut = configure(Cell("eurosat", "dinov2", method, 4, 0), FOLDERS)["model"]["init_args"]
    assert cut["model_args"]["backbone_keep_blocks"] == 4
    for arguments in (full, cut):
        assert "lr_overrides" not in arguments
        assert arguments.get("freeze_backbone", False) == (method == "frozen")
        assert ("peft_config" in arguments["model_args"]) == (method == "lora")


def test_outputs_that_are_images_need_no_reshaping() -> None:
    necks = compose("eurosat", "dinov2", FOLDERS)["model"]["init_args"]["model_args"]["necks"]
    assert [neck["name"] for neck in necks] == ["SelectIndices"]


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("nowhere", "mae12", "no task nowhere: there are dubai, eurosat"),
        ("eurosat", "nothing", "no model nothing: there are mae12, "),
        ("eurosat", "mae12", "mae12 does not read the bands of eurosat"),
    ],
)
def test_what_does_not_exist(task: str, model: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        compose(task, model, FOLDERS)


def test_cells_of_a_study() -> None:
    """Seed by seed; no model on other bands, none deeper than it is."""
    cells = list(cells_of(STUDY))
    assert cells[:6] == [
        Cell("eurosat", "dinov2", "first", 2, 0),
        Cell("eurosat", "dinov2", "first", 12, 0),
        Cell("flood_water", "mae12", "first", 2, 0),
        Cell("flood_water", "mae12", "first", 12, 0),
        Cell("eurosat", "dinov2", "lora", 4, 0),
        Cell("eurosat", "dinov2", "frozen", 4, 0),
    ]
    assert [cell.seed for cell in cells] == [0] * 6 + [1] * 6


def _row(cell: Cell) -> Row:
    accuracy = cell.depth / 100 + cell.seed / 10
    return Row(
        cell.task, cell.model, cell.method, cell.depth, cell.seed, "mIoU", accuracy, 7, 10, 1.5, 1
    )


def test_a_killed_study_ends_with_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Cell] = []

    def cell_or_end(cell: Cell, folders: Folders) -> Row:
        del folders
        if len(ran) in (2, 5):
            ran.append(cell)
            raise KeyboardInterrupt
        ran.append(cell)
        return _row(cell)

    monkeypatch.setattr(run, "run_cell", cell_or_end)
    table = tmp_path / "new" / "table.csv"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_study(STUDY, FOLDERS, table)
    rows = run_study(STUDY, FOLDERS, table)
    assert rows == [_row(cell) for cell in cells_of(STUDY)] == read_csv(Row, table)
    assert len(ran) == len(rows) + 2
    before = table.read_bytes()
    run_study(STUDY, FOLDERS, table)
    assert table.read_bytes() == before
    assert len(ran) == len(rows) + 2


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
    layers = [torch.randn(96, 4, 6, generator=rng)]
    for layer in range(1, 9):
        new = torch.randn(96, 4, 6, generator=rng)
        layers.append(new if layer < 4 else layers[-1] + 0.01 * new)
    rows = list(choices("task", "model", "tokens", torch.stack(layers, dim=1)))
    assert {row.tiles for row in rows} == {32, 64, 96}
    for tiles in (32, 64, 96):
        for criterion in CRITERIA:
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


def test_a_rerun_is_compared_with_the_spread_over_seeds() -> None:
    """Of its cell, but no less than the median over the cells of its task."""
    committed = [_row(Cell("eurosat", "dinov2", FIRST, 4, seed)) for seed in (0, 1, 2)]
    same, other = _row(Cell("eurosat", "dinov2", FIRST, 4, 1)), _row(Cell("x", "y", FIRST, 4, 1))
    far = replace(same, accuracy=same.accuracy + 0.3)
    found = list(compare([same, far, other], committed))
    assert [row.agrees for row in found] == [True, False]
    assert found[0].spread == pytest.approx(0.2)
    close = [replace(row, depth=8, accuracy=0.5) for row in committed]
    closer = [replace(row, depth=12, accuracy=0.5) for row in committed]
    assert next(compare([close[0]], committed + close)).spread == pytest.approx(0.1)
    assert next(compare([close[0]], committed + close + closer)).spread == 0
    alone = [replace(close[0], seed=1)]
    with pytest.raises(ValueError, match="none of these cells"):
        list(compare(alone, alone))
    assert str(found[1]).endswith("OUTSIDE")
    with pytest.raises(ValueError, match="none of these cells"):
        list(compare([other], committed))


def test_what_a_depth_retains() -> None:
    """By hand: two seeds, four depths, and what each way of choosing keeps of the full depth."""
    at = {1: (0.5, 0.6), 2: (0.7, 0.7), 4: (0.78, 0.8), 8: (0.8, 0.8)}
    rows = [
        replace(_row(Cell("task", model, FIRST, depth, seed)), accuracy=value * factor)
        for model, factor in (("model", 1.0), ("model_random", 0.5))
        for depth, values in at.items()
        for seed, value in enumerate(values)
    ]
    found = curves(
        [*rows, _row(Cell("task", "model", "lora", 8, 0))], {"model": 8, "model_random": 8}
    )
    assert not curves(rows, {"model": 9, "model_random": 9})
    curve = found["task", "model"]
    assert [row.depth for row in curve.rows] == [1, 2, 4, 8]
    assert curve.rows[0].accuracy == pytest.approx(0.55)
    assert curve.rows[0].spread == pytest.approx(0.1)
    assert (curve.total, curve.reached) == (8, 4)
    assert curve.retained(3) == pytest.approx((0.875 + 0.9875) / 2)
    assert matters(found, "task", "model")
    assert not matters(found, "task", "model_random")
    chosen = [
        Choice("task", "model", "tokens", "simpler", 64, depth, 5, 10, 0.1) for depth in (2, 4)
    ]
    figure = retention_figure({("task", "model"): curve}, list(judge(curve, chosen)), [])
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == ["task"]
    judged = {row.criterion: row for row in judge(curve, chosen)}
    assert list(judged) == ["simpler", "half", "paper_share", "random_depth"]
    assert (judged["simpler"].depth, judged["simpler"].beyond) == (3.0, -1.0)
    assert judged["simpler"].retained == pytest.approx((0.875 + 0.9875) / 2, abs=1e-4)
    assert judged["simpler"].worst == 0.875
    assert judged["half"].depth == 4
    assert judged["paper_share"].depth == 2
    assert (judged["random_depth"].lowest, judged["random_depth"].highest) == (1, 7)


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


def test_tables_are_put_between_their_comments() -> None:
    text = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    made = filled(text, {"x": "| new |\n"})
    assert made == "a\n<!-- begin x -->\n| new |\n<!-- end x -->\nb\n"
    with pytest.raises(ValueError, match="no place for the table y"):
        filled(text, {"y": ""})


def test_the_evidence_page_shows_the_committed_results() -> None:
    page = PAGE.read_text()
    assert filled(page, tables_of_results()) == page


def test_the_probe_orders_the_depths() -> None:
    at = {1: 0.5, 2: 0.7, 4: 0.8}
    rows = [
        replace(_row(Cell("task", "model", FIRST, depth, 0)), accuracy=value)
        for depth, value in at.items()
    ]
    probed = [
        Probed("task", "model", depth, "accuracy", score)
        for depth, score in enumerate([0.1, 0.3, 0.6, 0.58, 0.61])
    ]
    (found,) = ranked(curves(rows, {"model": 4}), probed)
    assert (found.depths, found.correlation, found.reached) == (3, 1.0, 2)
    assert found.retained == pytest.approx(0.875)
    assert not list(ranked(curves(rows, {"model": 4}), probed[:3]))


def test_the_frontier_goes_on_with_the_next_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Cell] = []

    def train(cell: Cell, folders: Folders) -> tuple[Row, nn.Module]:
        del folders
        trained.append(cell)
        model = nn.Conv2d(3, 2, 1)
        model.requires_grad_(cell.method != "frozen")
        return _row(cell), model

    monkeypatch.setattr(frontier, "train", train)
    monkeypatch.setattr(frontier, "RESULTS", tmp_path)
    study = yaml.safe_load(frontier.ARMS.read_text())
    file = tmp_path / "study.yaml"
    for seeds in ([0], [0, 1]):
        file.write_text(yaml.safe_dump({**study, "seeds": seeds}, sort_keys=False))
        frontier.main(FOLDERS, study=file)
    rows: list[frontier.Priced] = read_csv(frontier.Priced, tmp_path / "frontier.csv")
    assert [(row.arm, row.seed) for row in rows] == [
        (arm, seed) for seed in (0, 1) for arm in study["arms"]
    ]
    assert len(trained) == len(rows)
    assert {row.arm: row.trained for row in rows}["head alone"] == 0
    assert all(row.inference_ms > 0 for row in rows)
    assert (tmp_path / "frontier.svg").stat().st_size > 0
