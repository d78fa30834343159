"""The examples in docstrings run, from the root of a clone, and give what they show."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
EXAMPLES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): text
    for path in sorted((ROOT / "terratorch_simpler").rglob("*.py"))
    if ">>> " in (text := path.read_text())
}
"""Modules with examples by name, and their text: none is imported to be found."""


@pytest.mark.filterwarnings("ignore::terratorch_simpler.selection.select.SelectionWarning")
@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_give_what_they_show(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    done = doctest.testmod(import_module(module))
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize("module", EXAMPLES)
def test_no_example_is_skipped(module: str) -> None:
    assert "doctest: +SKIP" not in EXAMPLES[module]
