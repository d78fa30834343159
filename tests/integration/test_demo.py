"""The demo: select from tiles and with labels, fine-tune all models, compare."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from terratorch_simpler.cli import main
from terratorch_simpler.cli.demo import Demo
from terratorch_simpler.messages import Reporter
from terratorch_simpler.results.answers import ANSWERS, Answers
from terratorch_simpler.results.plan import PruningPlan
from tests.conftest import TINY, Hub

pytestmark = pytest.mark.slow


def test_the_demo_compares_the_full_and_the_pruned_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["demo", "--output", "demo", "--epochs", "1"])
    plan, labels = PruningPlan.load("demo/plan.json"), PruningPlan.load("demo/probe/plan.json")
    assert plan.depth != labels.depth
    shown = " ".join(capsys.readouterr().out.split())
    assert f"blocks 12 {plan.depth} {labels.depth} " in shown
    for row in ("ms per training step", "ms per batch at inference", "mIoU on the test tiles"):
        assert row in shown
    assert "$ terratorch fit -c demo/probe/segmentation_simpler.yaml --trainer.max_epochs" in shown
    for name in ("report.html", "segmentation.yaml", "segmentation_simpler.yaml"):
        assert (tmp_path / "demo" / name).is_file()
    written = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert [model["name"] for model in written] == ["full", "simpler", "probe"]
    assert [model["depth"] for model in written] == [12, plan.depth, labels.depth]
    for found in (plan, labels):
        assert found.made is not None
        assert found.made.command == "terratorch-simpler demo --output demo --epochs 1"
        assert found.finetuned is not None
        assert [len(model.validation or []) for model in found.finetuned] == [1, 1, 1]
        assert [model.score for model in found.finetuned] == [model["score"] for model in written]
    for report in ("demo/report.html", "demo/probe/report.html"):
        page = (tmp_path / report).read_text()
        assert f"{written[2]['score']:.3f}" in page
        assert '<img src="data:image/png' in page
        assert "validation tile 4: probe" in page
        assert "Validation mIoU" in page
        assert len(page) < 1_500_000
        assert Answers.read((tmp_path / report).with_name(ANSWERS)).classes[0] == "farm"
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--output", "demo"])
    assert stopped.value.code == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_demo_with_official_weights(tmp_path: Path, hub: Hub) -> None:
    """Up to the depth that it chooses: what follows is as with the sample's own weights."""
    from terratorch.registry import FULL_MODEL_REGISTRY

    weights = FULL_MODEL_REGISTRY.build(f"{TINY}_mae", num_frames=4).state_dict()
    hub("ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL", "Prithvi_EO_V2_tiny_TL.pt", weights)
    output = io.StringIO()
    console = Console(file=output, width=200)
    demo = Demo(console, Reporter(), tmp_path / "demo", epochs=1, overwrite=False)
    demo.write_task(TINY)
    plan = demo.select("simpler").plan
    assert f"{TINY} with its pre-trained weights" in output.getvalue()
    assert plan.backbone.pretrained
    assert "ckpt_path" not in plan.backbone.arguments
    assert (tmp_path / "demo" / "segmentation_simpler.yaml").is_file()


def test_official_weights_that_cannot_be_reached(
    tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    del hub  # an empty cache, offline
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--output", str(tmp_path / "demo"), "--backbone", "prithvi_eo_v2_300"])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert "prithvi_eo_v2_300 with its pre-trained weights, from the cache" in said.out
    assert "TerraTorch cannot build the task" in said.err
    assert "check your connection" in said.err
