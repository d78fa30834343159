"""``terratorch-simpler report``: the files of a plan again, from the plan alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from terratorch_simpler.cli import main
from terratorch_simpler.report import PAGE, REPORT, picture, read_pictures, report_files
from terratorch_simpler.results.answers import ANSWERS as ANSWERS_FILE
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.savings import Cost, Savings
from tests.conftest import MakePlan
from tests.report.plans import ANSWERS, FINETUNED

PICTURES = {
    name: picture(np.full((8, 8, 3), 80 * index, np.uint8))
    for index, name in enumerate(("a.tif", "b.tif"), 1)
}
PREFIX = "terratorch-simpler: error: "


@pytest.fixture
def plan(make_plan: MakePlan) -> PruningPlan:
    savings = Savings(Cost(5_400_000, 2 * 10**9, 0.2), Cost(2_000_000, 10**9, 0.1))
    return make_plan().model_copy(update={"savings": savings})


@pytest.fixture
def chosen(plan: PruningPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as ``select`` leaves it; the current one is that above it."""
    monkeypatch.chdir(tmp_path)
    folder = Path("chosen")
    folder.mkdir()
    plan.save(folder / "plan.json")
    for name, content in report_files(plan, "chosen/plan.json", PICTURES).items():
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says to a mistake."""
    with pytest.raises(SystemExit) as stopped:
        main(["report", *arguments])
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(PREFIX)
    assert output.err.count("\n") == 1
    return output.err


def test_the_report_of_a_plan_is_written_as_select_wrote_it(
    chosen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was measured and with the pictures of its tiles; nothing else is touched."""
    before = contents(chosen)
    (chosen / "scores.png").unlink()
    (chosen / "similarity.png").write_bytes(b"")
    main(["report", "chosen/plan.json"])
    assert contents(chosen) == before
    shown = capsys.readouterr().out
    assert "Keep the first 4 of 12 blocks" in shown
    assert "Written: chosen/report.html, chosen/similarity.png, chosen/scores.png" in shown


def test_it_needs_no_torch(chosen: Path) -> None:
    """Nor anything else that takes long to import."""
    code = """\
import sys
from terratorch_simpler.cli import main
main(["report", "chosen/plan.json"])
heavy = {"lightning", "rasterio", "terratorch", "torch", "torchgeo", "torchmetrics"}
print(heavy & set(sys.modules))
"""
    before = contents(chosen)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert contents(chosen) == before


def test_a_plan_alone_gives_a_report_without_pictures(
    chosen: Path, plan: PruningPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    plan.save("plan.json")
    main(["report", "plan.json", "--quiet"])
    assert capsys.readouterr().out == ""
    page = Path(PAGE).read_text()
    assert "Pictures of them are in the first report only." in page
    assert "first report only" not in (chosen / PAGE).read_text()
    assert "backbone_plan: plan.json" in page
    # Again: that is a report as well, if one without pictures.
    main(["report", "plan.json", "--quiet"])
    assert Path(PAGE).read_text() == page


def test_another_folder_gets_the_pictures_of_the_report_beside_the_plan(chosen: Path) -> None:
    before = contents(chosen)
    main(["report", "chosen/plan.json", "--output", "new/folder", "--quiet"])
    assert contents(chosen) == before
    del before["plan.json"]
    assert contents(Path("new/folder")) == before


def test_answers_of_its_models_lie_beside_a_plan(
    chosen: Path, plan: PruningPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of other models are left where they are; a file that is none is refused."""
    plan.model_copy(update={"finetuned": FINETUNED}).save(chosen / "plan.json", overwrite=True)
    (chosen / ANSWERS_FILE).write_bytes(ANSWERS.to_npz())
    for output in ("chosen", "other"):
        main(["report", "chosen/plan.json", "--output", output, "--quiet"])
        assert "What the models say" in Path(output, PAGE).read_text()
    shutil.copy("chosen/plan.json", "other")
    plan.save(chosen / "plan.json", overwrite=True)
    main(["report", "chosen/plan.json", "--quiet"])
    assert "What the models say" not in (chosen / PAGE).read_text()
    (Path("other") / ANSWERS_FILE).write_bytes(b"mine")
    assert f"other/{ANSWERS_FILE} holds no answers" in refused(capsys, "other/plan.json")


def test_the_folder_of_the_plan_can_be_named(chosen: Path) -> None:
    before = contents(chosen)
    main(["report", "chosen/plan.json", "--output", "new/../chosen/.", "--quiet"])
    assert contents(chosen) == before


def test_only_pictures_of_tiles_of_the_plan_are_kept(chosen: Path, plan: PruningPlan) -> None:
    tiles = plan.tiles.model_copy(update={"names": ["b.tif", "c.tif"]})
    plan.model_copy(update={"tiles": tiles}).save(chosen / "plan.json", overwrite=True)
    main(["report", "chosen/plan.json", "--quiet"])
    assert read_pictures(chosen / PAGE) == {"b.tif": PICTURES["b.tif"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [(PAGE, b"<h1>Mine</h1>"), (PAGE, b"\xff\xfe"), ("similarity.png", b""), ("scores.png", b"")],
)
def test_files_of_others_stay(
    chosen: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    for other in REPORT:
        (chosen / other).unlink()
    (chosen / name).write_bytes(content)
    before = contents(chosen)
    said = refused(capsys, "chosen/plan.json")
    assert f"chosen/{name} already there: choose another place" in said
    assert "--overwrite" in said
    assert contents(chosen) == before


def test_files_of_others_are_replaced_when_asked(chosen: Path) -> None:
    (chosen / PAGE).write_text("mine")
    main(["report", "chosen/plan.json", "--overwrite", "--quiet"])
    assert read_pictures(chosen / PAGE) == {}


def test_elsewhere_a_report_is_replaced_when_asked(
    chosen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["report", "chosen/plan.json", "--output", "other", "--quiet"]
    main(arguments)
    before = contents(Path("other"))
    said = refused(capsys, *arguments[1:])
    assert "other/report.html, other/similarity.png, other/scores.png already there" in said
    for name in REPORT:
        (chosen / name).unlink()
    main([*arguments, "--overwrite"])
    assert contents(Path("other")) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, ("no plan at plan.json", "terratorch-simpler select")),
        ("keep 3", ("plan.json is not a plan: not JSON",)),
        ("[1, 2]", ("plan.json is not a plan: it has no schema_version",)),
        ('{"schema_version": 2}', ("plan.json has plan schema 2", "upgrade")),
        ('{"schema_version": 1}', ("plan.json is not a valid plan: depth: Field required",)),
        ("contradiction", ("plan.json is not a valid plan: depth is 4 but kept_blocks has 1",)),
    ],
    ids=["missing", "text", "list", "newer schema", "nothing in it", "contradiction"],
)
def test_a_file_that_is_no_plan(
    chosen: Path,
    plan: PruningPlan,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    says: tuple[str, ...],
) -> None:
    del chosen
    if text == "contradiction":
        text = plan.model_copy(update={"kept_blocks": [0]}).to_json()
    if text is not None:
        Path("plan.json").write_text(text)
    said = refused(capsys, "plan.json", "--output", "new")
    assert all(part in said for part in says), said
    assert not Path("new").exists()


def test_no_plan_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "plan" in refused(capsys)


def test_a_file_in_the_place_of_the_folder(
    chosen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del chosen
    Path("taken").write_text("mine")
    assert "cannot write to the folder taken" in refused(
        capsys, "chosen/plan.json", "--output", "taken"
    )
    assert Path("taken").read_text() == "mine"
