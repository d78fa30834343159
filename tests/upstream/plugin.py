"""A pytest plugin that runs every test that asks for a backbone with pruned ones.

With ``-p tests.upstream.plugin --simpler third,uncut`` each test is run cut to a third of the
blocks; then, if a backbone was swapped in it, with all blocks; and unmodified where one of them did
not pass. Tests that ask for no backbone that can be cut are not counted at all.
"""

from __future__ import annotations

import gc
from collections.abc import Collection
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.upstream.listed import LISTED, Listed, read_listed
from tests.upstream.swap import MODES, Mode, Swap
from tests.upstream.verdict import Trial, Verdict, differs, judge

KEY = "simpler"
LEFT_OUT = f"{KEY}_left_out"
SLOWEST = 5
"""How many trials are named that took longest."""
MOST = 300
"""Characters of what went wrong that are shown."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup(KEY)
    group.addoption("--simpler", default="third,uncut", help="modes, of " + ", ".join(MODES))
    group.addoption("--simpler-list", type=Path, default=LISTED, help="the list of tests")
    group.addoption("--simpler-part", action="store_true", help="what is listed may be missing")


def pytest_configure(config: pytest.Config) -> None:
    """Start the plugin, in the process that shows results and in those that run tests.

    Raises:
        pytest.UsageError: If a mode is unknown.
    """
    modes = config.getoption("simpler").split(",")
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise pytest.UsageError(f"--simpler {','.join(unknown)}: give some of {', '.join(MODES)}")
    config.pluginmanager.register(Upstream(config, modes), f"{KEY}-upstream")


class Upstream:
    """Runs tests in several modes, and tells what differs.

    Attributes:
        trials: What was run so far, in all processes.
        left_out: Tests that are not run since the list leaves them out.
    """

    def __init__(self, config: pytest.Config, modes: list[Mode]) -> None:
        self.config = config
        self.modes = modes
        self.listed: Listed = read_listed(config.getoption("simpler_list"))
        self.version = version("terratorch")
        self.swap = Swap()
        self.trials: list[Trial] = []
        self.left_out: set[str] = set()
        # With xdist the first process runs no tests, and needs no TerraTorch.
        self.runs_tests = hasattr(config, "workerinput") or not config.getoption("numprocesses", 0)

    def pytest_sessionstart(self) -> None:
        """Load TerraTorch and make it ask for pruned backbones."""
        if self.runs_tests:
            import torch

            import terratorch_simpler  # noqa: F401 - registers the pruned backbones
            from tests.upstream.weights import draw_less

            torch.set_num_threads(1)
            draw_less()
            self.swap.install()
            # What is there now stays: each collection below has only the test's own to go through.
            gc.collect()
            gc.freeze()

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what the list leaves out."""
        modes = {item: self._modes(item) for item in items}
        config.hook.pytest_deselected(items=[item for item in items if not modes[item]])
        items[:] = [item for item in items if modes[item]]
        self.left_out = {item.nodeid for item in modes if len(modes[item]) < len(self.modes)}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool:
        """Run a test in every mode, and report the one that tells most."""
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports: dict[Mode, list[pytest.TestReport]] = {}
        trials: dict[Mode, Trial] = {}
        for mode in self._modes(item):
            trials[mode], reports[mode] = self._run(item, mode)
            if not trials[mode].asked:
                break
        swapped = any(trial.asked for trial in trials.values())
        failed = any(trial.outcome != "passed" for trial in trials.values())
        if swapped and failed and "unmodified" not in trials:
            trials["unmodified"], _ = self._run(item, "unmodified")
        self.trials += trials.values()
        telling = self._telling(trials, reports) if swapped else None
        for report in reports[telling] if telling else []:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _modes(self, item: pytest.Item) -> list[Mode]:
        """Modes in which a test is run."""
        test, version = item.nodeid, self.version
        return [mode for mode in self.modes if not self.listed.is_left_out(test, mode, version)]

    def _run(self, item: pytest.Item, mode: Mode) -> tuple[Trial, list[pytest.TestReport]]:
        from tests.conftest import free_memory

        self.swap.start(mode)
        start = perf_counter()
        # Without a next test fixtures of a module are torn down too: they may hold a backbone.
        reports = runtestprotocol(item, log=False, nextitem=None)
        seconds = perf_counter() - start
        free_memory()
        failed = next((report for report in reports if report.failed), None)
        skipped = any(report.skipped for report in reports)
        trial = Trial(
            test=item.nodeid,
            mode=mode,
            outcome="failed" if failed else "skipped" if skipped else "passed",
            seconds=seconds,
            asked=len(self.swap.asked),
            built=len(self.swap.built),
            left=self.swap.left,
            words=_last_line(failed) if failed else "",
        )
        return trial, reports

    def _telling(self, trials: dict[Mode, Trial], reports: Collection[Mode]) -> Mode | None:
        """The mode to report: the first that is a fault, else one that passed."""
        faults = [
            mode
            for mode, trial in trials.items()
            if differs(trial, trials.get("unmodified"))
            and not self.listed.may_differ(trial.test, mode, self.version)
        ]
        passed = [mode for mode in reports if trials[mode].outcome == "passed"]
        return next(iter(faults + passed), None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process of xdist ran."""
        self.trials += [Trial(**trial) for trial in node.workeroutput.get(KEY, [])]
        self.left_out |= set(node.workeroutput.get(LEFT_OUT, []))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over what was run, or fail where something is wrong."""
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput[KEY] = [asdict(trial) for trial in self.trials]
            self.config.workeroutput[LEFT_OUT] = sorted(self.left_out)
        elif self._verdict().faults and session.exitstatus in (0, 1, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table and what is wrong."""
        verdict = self._verdict()
        write = terminalreporter.write_line
        terminalreporter.section(f"TerraTorch {self.version}, pruned")
        write(verdict.table)
        others = [trial for trial in self.trials if trial not in verdict.trials]
        seconds = sum(trial.seconds for trial in others)
        write(f"{len(others)} tests ask for no backbone that can be cut: {seconds:.0f} s")
        for trial in sorted(self.trials, key=lambda trial: -trial.seconds)[:SLOWEST]:
            write(f"{trial.seconds:.0f} s: {trial.test} ({trial.mode})")
        for name, reason in sorted(verdict.left.items()):
            write(f"not swapped: {name}: {reason}")
        for fault in verdict.faults:
            write(fault, red=True)

    def _verdict(self) -> Verdict:
        whole = not self.config.getoption("simpler_part")
        left_out = self.left_out if whole else None
        return judge(self.trials, self.listed, self.version, left_out)


def _last_line(report: pytest.TestReport) -> str:
    """What went wrong, in a line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    return " ".join(text.split())[:MOST]
