from __future__ import annotations

from typing import Any

import pytest

from tests.upstream.listed import InModes, Listed
from tests.upstream.swap import Mode
from tests.upstream.verdict import Outcome, Trial, judge

FILE = "test_a.py"


def trial(mode: Mode, outcome: Outcome = "passed", test: str = "test_b", **given: Any) -> Trial:
    built = 0 if mode == "unmodified" else 1
    return Trial(f"{FILE}::{test}", mode, outcome, **{"asked": 1, "built": built} | given)


def listing(*tests: str, **given: Any) -> Listed:
    entries = tuple(InModes(tests=f"{FILE}::{test}", why="because", **given) for test in tests)
    return Listed(files=(FILE,), differs=entries)


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_what_passes_with_the_full_backbone_alone_is_a_fault(outcome: Outcome) -> None:
    trials = [trial("third", outcome, words="KeyError: 7"), trial("unmodified")]

    verdict = judge(trials, listing(), "1")

    assert verdict.faults == (
        "test_a.py::test_b (third): passes with the full backbone. KeyError: 7",
    )
    assert "1 differs" in verdict.table


def test_what_fails_with_the_full_backbone_too_is_none() -> None:
    trials = [
        trial("third", "failed"),
        trial("uncut", "skipped"),
        trial("unmodified", "failed"),
        *(trial(mode, test="test_c") for mode in ("third", "uncut")),
    ]

    verdict = judge(trials, listing(), "1")

    assert verdict.faults == ()
    assert verdict.table.count("1 as unmodified, 1 passed") == 4


def test_what_is_listed_may_differ() -> None:
    trials = [trial("third", "failed"), trial("unmodified")]

    verdict = judge(trials, listing("test_b", modes=("third",)), "1")

    assert verdict.faults == ()
    assert "1 as listed" in verdict.table


def test_an_entry_that_no_longer_differs_is_a_fault() -> None:
    verdict = judge([trial("third")], listing("test_b", "test_gone"), "1", left_out=[])

    assert verdict.faults == (
        "test_a.py::test_b (third): no longer differs. Take it off the list",
        "test_a.py::test_gone (third, uncut): no test has this name. Take it off the list",
    )
    assert judge([trial("third")], listing("test_gone"), "1").faults == ()
    uncut = listing("test_gone", modes=("uncut",))
    assert judge([trial("third")], uncut, "1", left_out=[]).faults == ()
    assert judge([trial("third")], listing("test_b", versions=("2",)), "1").faults == ()


def test_an_entry_that_leaves_nothing_out_is_a_fault() -> None:
    entries = (InModes(tests=f"{FILE}::test_large", why="large"),)
    listed = Listed(files=(FILE,), left_out=entries)

    assert judge([trial("third")], listed, "1", left_out=[f"{FILE}::test_large"]).faults == ()
    assert judge([trial("third")], listed, "1", left_out=[f"{FILE}::test_b"]).faults == (
        "test_a.py::test_large (third, uncut): no test has this name. Take it off the list",
    )


def test_a_file_in_which_nothing_was_swapped_is_a_fault() -> None:
    trials = [trial("third"), trial("uncut", built=0), trial("third", test="test_c", asked=0)]

    verdict = judge(trials, listing(), "1", left_out=[])

    assert verdict.faults == (
        "test_a.py (uncut): no pruned backbone was built. Take it off the list",
    )


def test_the_table_counts_tests_that_asked_for_a_backbone() -> None:
    trials = [
        trial("third", seconds=1.4),
        trial("uncut", seconds=2.3),
        trial("third", "failed", "test_c", asked=0, left={"swin": "it is hierarchical"}),
    ]

    verdict = judge(trials, listing(), "1")

    assert [line.split() for line in verdict.table.splitlines()] == [
        ["unmodified", "third", "uncut", "seconds"],
        [FILE, "not", "run", "1", "passed", "1", "passed", "4"],
        ["all", "not", "run", "1", "passed", "1", "passed", "4"],
    ]
    assert verdict.left == {"swin": "it is hierarchical"}
