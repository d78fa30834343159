"""Typical mistakes are answered before torch is imported, and with a guess at what was meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from terratorch_simpler.cli import main
from tests.rasters import BANDS, write_tiles

PREFIX = "terratorch-simpler: error: "
HEAVY = ("torch", "terratorch", "torchgeo", "lightning")
RUN = f"""\
import json, sys
from terratorch_simpler.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stopped:
    print(json.dumps([stopped.code, [name for name in {HEAVY} if name in sys.modules]]))
"""
TASK = """\
model:
  init_args:
    model_factory: EncoderDecoderFactory
    model_args: {backbone: prithvi_eo_tiny}
"""
BACKBONE = f"select --backbone prithvi_eo_tiny --tiles tiles --bands {' '.join(BANDS)} --size 64"


@dataclass(frozen=True)
class Early:
    """A mistake.

    Attributes:
        what: The mistake, in words.
        typed: What is typed.
        says: What the message must say.
        prepare: Makes files in the current folder.
    """

    what: str
    typed: str
    says: str
    prepare: Callable[[], object] = lambda: None


def text(name: str, content: str) -> Callable[[], object]:
    """A file of this text; its folder is made."""

    def write() -> None:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)

    return write


def tiles() -> None:
    write_tiles(Path("tiles"))


def tiles_and_results() -> None:
    tiles()
    text("out/plan.json", "kept")()


def task_and_results() -> None:
    text("task.yaml", TASK)()
    text("out/plan.json", "kept")()


CASES = [
    Early("config missing", "select --config nofile.yaml", "no config at nofile.yaml"),
    Early(
        "config a folder", "select --config tiles", "no config at tiles, which is a folder", tiles
    ),
    Early(
        "YAML error", "select --config a.yaml", "a.yaml is not YAML", text("a.yaml", "a: [1,\nb: {")
    ),
    Early(
        "unknown criterion",
        "select --config task.yaml --criterion cka",
        "unknown criterion 'cka'",
        text("task.yaml", TASK),
    ),
    Early(
        "share above 1",
        "select --config task.yaml --criterion probe --share 94",
        "share must be above 0 and at most 1, got 94",
        text("task.yaml", TASK),
    ),
    Early("tiles missing", BACKBONE, "no such folder or file of tiles: tiles"),
    Early(
        "tiles missing, with a config that leaves the bands to its datamodule",
        "select --config task.yaml --tiles tiles",
        "no such folder or file of tiles: tiles",
        text("task.yaml", TASK),
    ),
    Early("tiles empty", BACKBONE, "no raster", lambda: Path("tiles").mkdir()),
    Early("chips of no size", f"{BACKBONE} --size 0", "size must be at least 1, got 0", tiles),
    Early(
        "band that the files do not hold",
        f"{BACKBONE} --dataset_bands RED",
        "not in dataset_bands",
        tiles,
    ),
    Early(
        "fewer bands in the files",
        BACKBONE,
        "holds 4 bands and 6 are asked for",
        lambda: write_tiles(Path("tiles"), bands=4),
    ),
    Early(
        "backbone without bands",
        "select --backbone prithvi_eo_tiny --tiles tiles",
        "--backbone needs --bands",
        tiles,
    ),
    Early(
        "results of a config there",
        "select --config task.yaml --output out",
        "out/plan.json already there: choose another place, or replace with --overwrite",
        task_and_results,
    ),
    Early(
        "results of a backbone there",
        f"{BACKBONE} --output out",
        "out/plan.json already there: choose another place, or replace with --overwrite",
        tiles_and_results,
    ),
    Early(
        "results there, and other tiles",
        "select --config task.yaml --tiles tiles --output out",
        "out/plan.json already there",
        task_and_results,
    ),
    Early(
        "unknown command", "selct --config task.yaml", "no command 'selct': did you mean select?"
    ),
    Early("command like none", "choose", "no command 'choose': name one of select, probe, profile"),
    Early(
        "unknown option",
        "select --config task.yaml --criterium simpler",
        "unrecognized arguments: --criterium simpler: did you mean --criterion? (see "
        "terratorch-simpler select --help)",
    ),
    Early("option like none", "select --nonsense", "unrecognized arguments: --nonsense (see "),
    Early(
        "option before the command",
        "--quiet select --config task.yaml",
        "unrecognized arguments: --quiet: it goes after select",
    ),
    Early("a plan that is none", "report a.json", "a.json is not a plan", text("a.json", "keep 3")),
    Early(
        "probe with a plan that is none",
        "probe --config task.yaml --plan a.json",
        "a.json is not a plan",
        text("a.json", "keep 3"),
    ),
    Early("probe without a config", "probe --config nofile.yaml", "no config at nofile.yaml"),
    Early("profile without a config", "profile --config nofile.yaml", "no config at nofile.yaml"),
    Early(
        "profile on an unknown accelerator",
        "profile --backbone prithvi_eo_tiny --accelerator abacus",
        "unknown accelerator 'abacus': choose one of auto, cpu",
    ),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_mistake_is_answered_before_torch_is_imported(case: Early, folder: Path) -> None:
    case.prepare()
    before = sorted(folder.rglob("*"))
    command = [sys.executable, "-c", RUN, *case.typed.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.startswith(PREFIX)
    assert done.stderr.count("\n") == 1
    assert case.says in done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [2, []]
    assert sorted(folder.rglob("*")) == before


def test_a_run_that_is_interrupted_while_terratorch_loads_leaves_no_folder(folder: Path) -> None:
    """Ctrl-C then stands where the import of Lightning, the first of them, does."""
    stop = folder / "stop"
    (stop / "lightning").mkdir(parents=True)
    (stop / "lightning" / "__init__.py").write_text("raise KeyboardInterrupt")
    work = folder / "work"
    work.mkdir()
    (work / "task.yaml").write_text(TASK)
    code = "from terratorch_simpler.cli import main; main()"
    command = [sys.executable, "-c", code, "select", "--config", "task.yaml", "--output", "a/b/c"]
    path = os.pathsep.join([str(stop), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=work,
        env=os.environ | {"PYTHONPATH": path},
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, f"{PREFIX}interrupted\n")
    assert done.stdout.splitlines() == ["Loading TerraTorch ..."]
    assert [path.name for path in work.iterdir()] == ["task.yaml"]


def test_debug_shows_where_it_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    from terratorch_simpler.cli import report

    def interrupted(_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(["report", "plan.json", "--debug"])
    with pytest.raises(SystemExit) as stopped:
        main(["report", "plan.json"])
    assert stopped.value.code == 130
