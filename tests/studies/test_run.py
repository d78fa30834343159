from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from studies.measure import run
from studies.measure.compose import Folders, compose, fits, metric_of, models, tasks
from studies.measure.methods import FIRST
from studies.measure.run import Cell, cells_of, configure, run_study
from studies.records import Row
from studies.tables import read_csv
from tests.studies.rows import FOLDERS, row_of

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
        return row_of(cell)

    monkeypatch.setattr(run, "run_cell", cell_or_end)
    table = tmp_path / "new" / "table.csv"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_study(STUDY, FOLDERS, table)
    rows = run_study(STUDY, FOLDERS, table)
    assert rows == [row_of(cell) for cell in cells_of(STUDY)] == read_csv(Row, table)
    assert len(ran) == len(rows) + 2
    before = table.read_bytes()
    run_study(STUDY, FOLDERS, table)
    assert table.read_bytes() == before
    assert len(ran) == len(rows) + 2
