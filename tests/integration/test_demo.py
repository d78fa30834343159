"""The demo: select, fine-tune both models, compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from terratorch_simpler.cli import main
from terratorch_simpler.results.plan import PruningPlan

pytestmark = pytest.mark.slow


def test_the_demo_compares_the_full_and_the_pruned_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["demo", "--output", "demo", "--epochs", "1"])
    plan = PruningPlan.load("demo/plan.json")
    shown = " ".join(capsys.readouterr().out.split())
    assert f"depth (blocks) 12 {plan.depth}" in shown
    for row in ("ms per training step", "ms per batch at inference", "mIoU on the validation"):
        assert row in shown
    for name in ("report.html", "segmentation.yaml", "segmentation_simpler.yaml"):
        assert (tmp_path / "demo" / name).is_file()
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--output", "demo"])
    assert stopped.value.code == 2
    assert "--overwrite" in capsys.readouterr().err
