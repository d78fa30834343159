"""Whether the pruned backbone did wherever the full one does: from trials to faults and a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.upstream.listed import Listed
from tests.upstream.swap import MODES, Mode

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Trial:
    """One test, run in one mode.

    Attributes:
        test: Its name, from the file on.
        mode: How backbones were swapped.
        outcome: What pytest says.
        seconds: How long it took.
        asked: How often it asked for a backbone that can be cut.
        built: How many pruned backbones were built.
        left: Names that it asked for and that cannot be cut, with the reason.
        words: The last line of what went wrong.
    """

    test: str
    mode: Mode
    outcome: Outcome
    seconds: float = 0.0
    asked: int = 0
    built: int = 0
    left: Mapping[str, str] = field(default_factory=dict, hash=False)
    words: str = ""

    @property
    def file(self) -> str:
        """The test's file."""
        return self.test.partition("::")[0]


@dataclass(frozen=True)
class Verdict:
    """What trials show.

    Attributes:
        trials: Those of tests that asked for a backbone that can be cut.
        faults: What is wrong, one a line.
        table: A line a file.
        left: Names that were not swapped, with the reason.
    """

    trials: tuple[Trial, ...]
    faults: tuple[str, ...]
    table: str
    left: Mapping[str, str]


def judge(
    trials: Iterable[Trial], listed: Listed, version: str, left_out: Collection[str] | None = None
) -> Verdict:
    """Compare each mode with the unmodified run, and with what the list lets differ.

    Args:
        trials: What was run. A test that did not pass in a mode was run unmodified as well.
        listed: The list.
        version: Version of TerraTorch.
        left_out: Tests that the list left out, where all that it names was to be run, so that what
            did not show is a fault; None where a part was.
    """
    trials = tuple(trials)
    left = {name: reason for trial in trials for name, reason in trial.left.items()}
    asking = {trial.test for trial in trials if trial.asked}
    asked = tuple(trial for trial in trials if trial.test in asking)
    unmodified = {trial.test: trial for trial in asked if trial.mode == "unmodified"}
    words = {trial: _word(trial, unmodified, listed, version) for trial in asked}
    faults = [
        f"{trial.test} ({trial.mode}): passes with the full backbone. {trial.words}"
        for trial, word in words.items()
        if word == "differs"
    ]
    faults += [
        f"{trial.test} ({trial.mode}): no longer differs. Take it off the list"
        for trial in asked
        if trial.outcome == "passed" and listed.may_differ(trial.test, trial.mode, version)
    ]
    if left_out is not None:
        faults += _missing(trials, listed, version, left_out)
    return Verdict(asked, tuple(faults), table(words), left)


def differs(trial: Trial, unmodified: Trial | None) -> bool:
    """Whether a test did not pass in a mode, and does with the full backbone."""
    return trial.outcome != "passed" and unmodified is not None and unmodified.outcome == "passed"


def _word(trial: Trial, unmodified: Mapping[str, Trial], listed: Listed, version: str) -> str:
    if trial.mode == "unmodified" or trial.outcome == "passed":
        return trial.outcome
    if not differs(trial, unmodified.get(trial.test)):
        return "as unmodified"
    return "as listed" if listed.may_differ(trial.test, trial.mode, version) else "differs"


def _missing(
    trials: tuple[Trial, ...], listed: Listed, version: str, left_out: Collection[str]
) -> Iterator[str]:
    modes = {trial.mode for trial in trials} - {"unmodified"}
    for file in listed.files:
        for mode in sorted(modes):
            if not any(t.built for t in trials if t.file == file and t.mode == mode):
                yield f"{file} ({mode}): no pruned backbone was built. Take it off the list"
    named = {trial.test for trial in trials}
    for entries, tests in ((listed.differs, named), (listed.left_out, left_out)):
        for entry in entries:
            asked = entry.holds(version) and not modes.isdisjoint(entry.modes)
            if asked and not any(entry.names(test) for test in tests):
                yield f"{entry}: no test has this name. Take it off the list"


def table(words: Mapping[Trial, str]) -> str:
    """A line a file: how many tests ended how in each mode, and the seconds of all."""
    files = sorted({trial.file for trial in words})
    rows = [["", *MODES, "seconds"]]
    for file in [*files, "all"]:
        chosen = {t: word for t, word in words.items() if file in ("all", t.file)}
        cells = [_cell(word for t, word in chosen.items() if t.mode == mode) for mode in MODES]
        rows.append([file, *cells, f"{sum(t.seconds for t in chosen):.0f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cell(words: Iterable[str]) -> str:
    counts = Counter(words)
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "not run"
