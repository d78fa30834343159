"""``predict`` as it is typed: maps, what is said of them, and mistakes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio

from terratorch_simpler.cli import main
from terratorch_simpler.predicting.session import OnnxModel
from tests.predicting.models import deployment, write_model
from tests.rasters import BANDS, landscape, write_raster

PREFIX = "terratorch-simpler: error: "


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and scenes of 12 windows each, in the working directory."""
    write_model(tmp_path / "model.onnx", deployment(no_data_replace=0))
    for number in range(3):
        image = landscape(6, 100, 80, seed=number)
        write_raster(tmp_path / "scenes" / f"s{number}.tif", image, descriptions=BANDS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> None:
    main(["predict", "model.onnx", *arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, model: str = "model.onnx") -> str:
    """The message of a mistake."""
    with pytest.raises(SystemExit) as stopped:
        main(["predict", model, *arguments])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(PREFIX)
    return said.removeprefix(PREFIX)


def fresh(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, after some code and before ``done``."""
    typed = ["predict", "model.onnx", *arguments]
    text = f"import sys\n{code}\nfrom terratorch_simpler.cli import main\nmain({typed!r})\n"
    text += "print('loaded:', *{name.split('.')[0] for name in sys.modules})"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


def test_a_map_is_made_without_torch(folder: Path) -> None:
    done = fresh("", "scenes/s0.tif", "--output", "map.tif")
    assert done.returncode == 0, done.stderr
    *lines, loaded = done.stdout.splitlines()
    heavy = {"torch", "terratorch", "torchgeo", "lightning", "matplotlib", "scipy", "pandas"}
    assert not heavy & set(loaded.split())
    assert {"onnxruntime", "rasterio"} < set(loaded.split())
    assert lines[0].endswith("s0.tif: 100 x 80 px, 12 windows")
    assert lines[1] == "map.tif: 3 of 12 windows"
    assert lines[-1].startswith("Written: map.tif (0.01 megapixels in ")
    assert lines[-1].endswith(" s a megapixel)")
    with rasterio.open(folder / "map.tif") as made:
        assert made.shape == (100, 80)


def test_several_scenes_become_maps_in_a_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("scenes/*.tif", "--output", "new/maps")
    names = sorted(path.name for path in (folder / "new" / "maps").iterdir())
    assert names == ["s0.tif", "s1.tif", "s2.tif"]
    said = capsys.readouterr().out
    assert said.count("Written: ") == 3
    assert "3 maps: 0.02 megapixels in " in said


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run("scenes/s0.tif", "--output", "map.tif", "--quiet")
    assert capsys.readouterr().out == ""


def test_options_reach_the_map(folder: Path) -> None:
    how = ["--stride", "20", "--delta", "2", "--padding", "false", "--num_threads", "1"]
    run("scenes/s0.tif", "--output", "map.tif", "--probabilities", "--batch_size", "3", *how)
    with rasterio.open(folder / "map.tif") as made:
        assert made.count == 3
        assert made.dtypes[0] == "float32"
    write_raster(folder / "plain.tif", landscape(7, 40))
    run("plain.tif", "--output", "plain_map.tif", "--dataset_bands", *BANDS, "DEM")


def test_a_map_that_is_there_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "map.tif").write_text("mine")
    output = ("scenes/s0.tif", "--output", "map.tif")
    said = refused(capsys, *output)
    assert said.startswith("map.tif already there: ")
    assert "--overwrite" in said
    assert "--resume" in said
    assert refused(capsys, *output, "--resume").startswith("map.tif already there: ")
    assert (folder / "map.tif").read_text() == "mine"
    run(*output, "--overwrite")
    with rasterio.open(folder / "map.tif") as made:
        assert made.shape == (100, 80)


def test_resume_keeps_maps_that_are_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("scenes/s1.tif", "--output", "maps")
    before = (folder / "maps" / "s1.tif").stat().st_mtime_ns
    run("scenes", "--output", "maps", "--resume")
    assert "1 of 3 maps are there already" in capsys.readouterr().out
    assert (folder / "maps" / "s1.tif").stat().st_mtime_ns == before
    assert len(list((folder / "maps").iterdir())) == 3
    run("scenes", "--output", "maps", "--resume")
    assert "3 of 3 maps are there already" in capsys.readouterr().out
    said = refused(capsys, "scenes", "--output", "maps", "--resume", "--stride", "20")
    assert said.startswith("maps/s0.tif, maps/s1.tif, maps/s2.tif already there")


@pytest.mark.parametrize("scenes", [["scenes/s0.tif"], ["scenes"]])
def test_a_run_that_is_interrupted_says_how_to_go_on(
    scenes: Sequence[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = OnnxModel.run, 0

    def stop(model: OnnxModel, windows: list[object]) -> object:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return real(model, windows)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(OnnxModel, "run", stop)
        with pytest.raises(SystemExit) as stopped:
            run(*scenes, "--output", "maps")
    assert stopped.value.code == 130
    again = "the same command with --resume" if len(scenes[0]) < 8 else "the same command goes on"
    said = capsys.readouterr()
    assert "Stopped: what is finished of maps/s0.tif is kept in maps/.s0.tif.partial" in said.out
    assert again in said.out
    assert said.err == f"{PREFIX}interrupted\n"
    run(*scenes, "--output", "maps", "--resume")
    assert "Going on with maps/s0.tif at row " in capsys.readouterr().out


KILLED = """
import os, signal
from terratorch_simpler.predicting.partial import PartialMap
keep = PartialMap.keep
def kill(self, number, strip):
    keep(self, number, strip)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
PartialMap.keep = kill
"""


def test_a_run_that_was_killed_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ("scenes/s0.tif", "--output", "map.tif")
    assert fresh(KILLED, *output).returncode == -9
    assert not (folder / "map.tif").exists()
    run(*output)
    assert "Going on with map.tif at row 54 of 100" in capsys.readouterr().out
    run("scenes/s0.tif", "--output", "whole.tif")
    assert (folder / "map.tif").read_bytes() == (folder / "whole.tif").read_bytes()


def test_a_run_that_fails_first_leaves_no_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "scenes/s0.tif", "--output", "new/maps", "--stride", "33")
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.tif", "--output", "map.tif"], "no such scene: nowhere.tif"),
        (["scenes", "--output", "map.tif"], "3 scenes cannot become one map"),
        (["scenes", "--output", "scenes"], "would take the place of a scene"),
        (["model.json", "--output", "map.tif"], "no such scene: model.json"),
        (["scenes/s0.tif", "--output", "map.tif", "--num_threads", "-1"], "num_threads must be 0"),
        (["scenes/s0.tif", "--output", "map.tif", "--batch_size", "0"], "batch_size must be at l"),
        (["scenes/s0.tif", "--output", "map.tif", "--stride", "40"], "stride must be 1 to the"),
        (["scenes/s0.tif", "--output", "map.tif", "--delta", "9"], "delta must be 0 to 2"),
        (["scenes/s0.tif", "--output", "map.tif", "--crop", "64"], "crop is 64, but model.onnx"),
        (["scenes/s0.tif", "--output", "model.onnx/maps"], "cannot write to the folder"),
        (["scenes/s0.tif"], "output"),
    ],
)
def test_mistakes_are_said_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *arguments)


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    output = ("scenes/s0.tif", "--output", "map.tif")
    assert "no exported model at m.onnx: make one" in refused(capsys, *output, model="m.onnx")
    assert "not an ONNX file" in refused(capsys, *output, model="scenes/s0.tif")


PEAK = """
import atexit, pathlib, re
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]))
"""
"""Of this process alone: what getrusage says can be that of the process that started it."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems count in other units")
def test_memory_does_not_grow_with_the_height_of_a_scene(folder: Path) -> None:
    write_model(folder / "model.onnx", deployment(size=224, classes=7))
    peaks = []
    for height in (1000, 8000):
        image = np.tile(landscape(6, 1000), (1, height // 1000, 1))
        write_raster(folder / "tall.tif", image, descriptions=BANDS)
        done = fresh(PEAK, "tall.tif", "--output", f"map_{height}.tif")
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.splitlines()[-1]) / 1000)
    # The bands and logits of the rest are 364 MB, and what GDAL keeps of them in its cache 84.
    assert peaks[1] - peaks[0] < 150
