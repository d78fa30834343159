"""One way through a selection: what is read, pruned and rendered how often."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import terratorch_simpler.profiling.savings
import terratorch_simpler.report
import terratorch_simpler.selection.select
import terratorch_simpler.task.build  # noqa: F401 - all that counts is loaded
from terratorch_simpler import select_task
from terratorch_simpler.task.sample import TASK, sample_config

PACKAGE = "terratorch_simpler"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often our modules call what is counted, by name."""
    counts: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any, **named: Any) -> Any:
            caller = sys._getframe(1).f_globals["__name__"]
            counts[name] += caller.partition(".")[0] == PACKAGE
            return function(*arguments, **named)

        return count

    for name in ("compose", "safe_load", "load"):
        monkeypatch.setattr(yaml, name, counted("yaml", getattr(yaml, name)))
    monkeypatch.setattr(torch, "load", counted("torch.load", torch.load))
    for name in ("prune_backbone", "similarity_figure", "scores_figure"):
        homes = [m for key, m in sys.modules.items() if key.startswith(PACKAGE) and name in vars(m)]
        assert homes
        for module in homes:
            monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return counts


@pytest.mark.filterwarnings("ignore:8 tiles:terratorch_simpler.selection.select.SelectionWarning")
def test_everything_is_done_once(calls: Counter[str], tmp_path: Path) -> None:
    task = tmp_path / TASK
    task.write_text(sample_config())
    select_task(task, tmp_path / "out", samples=8, tokens=4, accelerator="cpu", progress=False)
    assert calls == {
        "yaml": 1,
        "torch.load": 1,
        "prune_backbone": 1,
        "similarity_figure": 1,
        "scores_figure": 1,
    }
