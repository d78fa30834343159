"""select_task(): config in, folder out; what the command does, in Python."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from terratorch_simpler import PruningPlan, select_task
from terratorch_simpler.cli import main
from terratorch_simpler.messages import Reporter
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.task.sample import IN_CLONE, TASK, sample_config
from tests.rasters import write_tiles

pytestmark = pytest.mark.filterwarnings(
    "ignore:8 tiles:terratorch_simpler.selection.select.SelectionWarning"
)

FILES = ["plan.json", "report.html", "similarity.png", "scores.png", "segmentation_simpler.yaml"]
BRIEF = Settings(samples=8, tokens=4, accelerator="cpu", progress=False)


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of the embedded sample."""
    path = tmp_path_factory.mktemp("task") / TASK
    path.write_text(sample_config())
    return path


@pytest.mark.slow
def test_a_config_gives_the_files_that_the_command_gives(task: Path, tmp_path: Path) -> None:
    listener = Listener()
    done = select_task(task, tmp_path / "python", BRIEF, reporter=listener)
    assert done.files == tuple(tmp_path / "python" / name for name in FILES)
    assert sorted(done.folder.iterdir()) == sorted(done.files)
    assert done.config == done.files[-1]
    assert PruningPlan.load(done.files[0]) == done.plan
    assert (done.plan.tiles.used, done.plan.tokens) == (8, 4)
    assert listener.lines == [
        "Loading TerraTorch ...",
        "Measuring 12 blocks of prithvi_eo_v2_tiny_tl ...",
    ]

    folder = tmp_path / "command"
    main(
        [
            *("select", "--config", str(task), "--output", str(folder), "--quiet"),
            *("--samples", "8", "--tokens", "4", "--accelerator", "cpu"),
        ]
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    plans = [PruningPlan.load(place / "plan.json") for place in (folder, done.folder)]
    # Seconds differ from run to run, and so does when and by what a plan was made.
    varies = {"savings": None, "made": None}
    first, second = (plan.model_copy(update=varies).to_json() for plan in plans)
    assert first == second
    typed, called = (plan.made for plan in plans)
    assert typed is not None
    assert called is not None
    assert typed.command is not None
    assert typed.command.startswith(f"terratorch-simpler select --config {task} --output")
    assert typed.command.endswith("--quiet --samples 8 --tokens 4 --accelerator cpu")
    assert called.command is None
    assert typed.config == called.config == str(task)
    assert typed.at >= called.at
    for name in ("similarity.png", "scores.png"):
        assert (folder / name).read_bytes() == (done.folder / name).read_bytes()
    text = (folder / FILES[-1]).read_text()
    assert text.replace(str(folder), str(done.folder)) == done.config.read_text()

    with pytest.raises(FileExistsError, match=r"plan.json.*already there.*overwrite=True"):
        select_task(task, done.folder, BRIEF)
    again = select_task(task, done.folder, BRIEF, seed=1, overwrite=True)
    assert again.plan.tiles.seed == 1


def test_tiles_take_the_place_of_the_config_s_images(task: Path, tmp_path: Path) -> None:
    images = Path(str(sample_config().partition("train_data_root: ")[2].splitlines()[0]))
    assert IN_CLONE in images.as_posix()
    done = select_task(task, tmp_path / "out", BRIEF, tiles=images, size=64, criterion="knee")
    assert done.plan.criterion == "knee"
    assert (done.plan.tiles.used, done.plan.tiles.source) == (8, str(images))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sample": 8}, "select_task takes no sample: its options are accelerator, .*samples"),
        ({"pretrained": True}, "takes no pretrained"),
        ({"size": 64, "means": [0.0]}, "means, size say how tiles are read: name them with tiles"),
        ({"probe": True, "devices": 2}, "probe runs on one device: leave out devices and num_nod"),
        ({"criterion": "cka"}, "unknown criterion 'cka'"),
    ],
)
def test_options_that_cannot_be_right_are_refused_first(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        select_task(tmp_path / "gone.yaml", tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_errors_name_options_as_in_python(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.accelerators import CUDAAccelerator

    bare = tmp_path / "bare.yaml"
    text = task.read_text()
    bare.write_text(text[: text.index("data:")] + text[text.index("model:") :])
    with pytest.raises(ValueError, match=r"bare\.yaml has no data: add it, or give tiles with ti"):
        select_task(bare, tmp_path / "out")
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: False))
    with pytest.raises(ValueError, match="Lightning cannot run with accelerator='cuda' and prec"):
        select_task(task, tmp_path / "out", accelerator="cuda")
    assert not (tmp_path / "out").exists()


# A selection that is finished


def test_a_selection_is_written_where_the_probe_after_it_fails(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from terratorch_simpler.task import probe

    def fail(*_: Any) -> Any:
        raise ValueError("there are no tiles to validate on")

    monkeypatch.setattr(probe, "probe_task", fail)
    message = r"^there are no tiles to validate on \(the selection is finished, and written: .*plan"
    with pytest.raises(ValueError, match=message):
        select_task(task, tmp_path / "out", BRIEF, probe=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert PruningPlan.load(tmp_path / "out" / "plan.json").probe is None


@pytest.mark.slow
@pytest.mark.parametrize("error", [MemoryError("full"), KeyboardInterrupt()])
def test_a_selection_is_written_where_its_report_fails(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    from terratorch_simpler.profiling import savings

    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(savings, "measure_savings", fail)
    listener = Listener()
    with pytest.raises(type(error)):
        select_task(task, tmp_path / "out", BRIEF, reporter=listener)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [FILES[0], FILES[-1]]
    assert listener.lines[-1].startswith("What follows the selection failed; the selection is fin")


def test_label_files_with_nodata_of_their_own_are_named_before_the_pass(
    task: Path, tmp_path: Path
) -> None:
    """TerraTorch reads these pixels as NaN, and makes the least of all integers a class."""
    text = task.read_text()
    labels = Path(text.partition("train_label_data_root: ")[2].splitlines()[0])
    shutil.copytree(labels, tmp_path / "labels")
    first = sorted((tmp_path / "labels").glob("*.tif"))[0]
    for file in (tmp_path / "labels").iterdir():
        with rasterio.open(file, "r+") as target:
            target.nodata = 255
            values = target.read(1)
            values[0, 0] = 255
            target.write(values, 1)
    bare = "\n".join(line for line in text.splitlines() if "no_label_replace" not in line)
    (tmp_path / "task.yaml").write_text(bare.replace(str(labels), str(tmp_path / "labels")))
    with pytest.raises(ValueError, match=rf"the labels {first} hold 255 .* set no_label_replace"):
        select_task(tmp_path / "task.yaml", tmp_path / "out", BRIEF, probe=True)
    assert not (tmp_path / "out").exists()


def test_mistakes_in_tiles_show_before_terratorch_is_loaded(task: Path, tmp_path: Path) -> None:
    write_tiles(tmp_path / "tiles", 4, bands=5)
    listener = Listener()
    with pytest.raises(ValueError, match=r"tile_0.tif holds 5 bands, dataset_bands names 6"):
        select_task(task, tmp_path / "out", BRIEF, tiles=tmp_path / "tiles", reporter=listener)
    assert listener.lines == []


def test_what_the_datamodule_alone_can_say_is_left_to_it(task: Path, tmp_path: Path) -> None:
    """A datamodule can know which bands its files hold without an argument that says so."""
    write_tiles(tmp_path / "tiles", 4, bands=5)
    lines = [line for line in task.read_text().splitlines() if "dataset_bands" not in line]
    (tmp_path / "task.yaml").write_text("\n".join(lines))
    listener = Listener()
    with pytest.raises(ValueError, match=r"tile_0.tif holds 5 bands"):
        select_task(
            tmp_path / "task.yaml",
            tmp_path / "out",
            BRIEF,
            tiles=tmp_path / "tiles",
            reporter=listener,
        )
    assert listener.lines == ["Loading TerraTorch ..."]


# Labels that decide


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::terratorch_simpler.selection.select.SelectionWarning")
def test_labels_decide(task: Path, tmp_path: Path) -> None:
    """The tiles are read as by any criterion, and the probe is that of `probe=True`."""
    alone = select_task(task, tmp_path / "alone", BRIEF, probe=True).plan
    done = select_task(task, tmp_path / "labels", BRIEF, criterion="probe")
    share = select_task(task, tmp_path / "share", BRIEF, criterion="probe", share=1.0).plan
    plan = done.plan
    assert PruningPlan.load(done.files[0]) == plan
    assert sorted(path.name for path in done.folder.iterdir()) == sorted(FILES)
    assert plan.probe is not None
    assert alone.probe is not None
    assert replace(alone.probe, chosen=None) == plan.probe
    assert plan.depth == plan.probe.within_error
    assert plan.scores == plan.probe.of_depths
    assert plan.confidence == plan.depth_shares[plan.depth]
    assert np.array_equal(plan.similarity, alone.similarity)
    assert plan.others.keys() == {"simpler", *alone.others}
    assert plan.others["simpler"] == alone.kept_blocks
    assert plan.others["first"] == plan.kept_blocks
    assert done.config is not None
    assert f"backbone_keep_blocks: {plan.depth}" in done.config.read_text()
    assert plan.savings is not None
    assert share.depth == plan.probe.best
