"""What the package says is explained: its warnings in the questions, its words in the glossary."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from terratorch_simpler.baselines import BASELINES
from terratorch_simpler.criteria import CRITERIA, PROBE
from terratorch_simpler.results import wording
from tests.docs.pages import DOCS, ROOT, anchors

ANSWERS = {
    "was not pre-trained": "name-was-not-pre-trained",
    "is flatter than what comes before": "no-part-is-flatter-than-what-comes-before-it",
    "the labelled validation tiles do not settle": (
        "the-labelled-validation-tiles-do-not-settle-the-depth"
    ),
    "the tiles do not settle the depth": "the-tiles-do-not-settle-the-depth",
    "times as spread": "the-kept-blocks-output-is-n-times-as-spread",
    "the tiles alone say": "labels-say-other-depths-than-the-tiles-alone",
    "fewer than two labelled validation tiles": "fewer-than-two-labelled-validation-tiles",
    "frozen features tell nothing": "frozen-features-tell-nothing-of-this-task",
    "make too few groups": "tiles-make-too-few-groups",
    "of one group of tiles": "rankme-is-measured-of-one-group",
    "fewer than a quarter": "fewer-than-a-quarter-of-the-blocks-are-kept",
    "do not declare one scale and offset": "the-files-do-not-declare-one-scale-and-offset",
}
"""Where the questions answer each warning of a plan, by words of it."""


def said_by(function: Callable[..., Any]) -> list[str]:
    """The messages that a function can give, without what is filled in."""
    return [
        "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        if isinstance(node, ast.JoinedStr)
        else str(node.value)
        for found in ast.walk(ast.parse(inspect.getsource(function)))
        for node in _listed(found)
        if isinstance(node, ast.JoinedStr | ast.Constant)
    ]


def _listed(node: ast.AST) -> list[ast.expr]:
    """What is appended to a list, or given back as one."""
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "append":
        return node.args
    if isinstance(node, ast.Return) and isinstance(node.value, ast.List):
        return node.value.elts
    return []


def test_every_warning_of_a_plan_has_a_way_out() -> None:
    messages = [
        message
        for function in (wording.doubts, wording.disagreement, wording._doubts_of_labels)
        for message in said_by(function)
    ]
    assert len(messages) == len(ANSWERS)
    answered = [
        [where for words, where in ANSWERS.items() if words in message] for message in messages
    ]
    assert sorted(where for found in answered for where in found) == sorted(ANSWERS.values())
    assert set(ANSWERS.values()) <= anchors(DOCS / "faq.md")


@pytest.mark.parametrize("name", [*CRITERIA, PROBE])
def test_every_criterion_is_explained(name: str) -> None:
    assert name in anchors(DOCS / "criteria.md")


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_explained(name: str) -> None:
    baselines = (DOCS / "criteria.md").read_text().partition("## Baselines")[2]
    assert f"| `{name}` |" in baselines


def test_the_glossary_has_the_words_of_the_house() -> None:
    def words(text: str) -> set[str]:
        return set(re.findall(r"^\| ([^|`-][^|]*?) \| .+ \|$", text, flags=re.M))

    house = (ROOT / "CONTRIBUTING.md").read_text().partition("## Words")[2].partition("## Style")[0]
    assert len(words(house)) > 10
    assert words(house) <= words((DOCS / "glossary.md").read_text())
