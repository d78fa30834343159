"""A selection whose results go into one folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from terratorch_simpler.criteria import PROBE
from terratorch_simpler.files import check_free, results_folder, write_files
from terratorch_simpler.messages import Reporter, one_line
from terratorch_simpler.results.made import Made
from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.task.config import TaskConfig

if TYPE_CHECKING:
    from terratorch_simpler.backbones.backbone import Backbone
    from terratorch_simpler.probing.probe import ProbeSettings
    from terratorch_simpler.results.plan import PruningPlan
    from terratorch_simpler.selection.select import Selection
    from terratorch_simpler.task.build import Task

RESULTS = ("plan.json", "report.html", "similarity.png", "scores.png")
Built = tuple["Backbone", Any, "Task | None"]
"""A backbone, its tiles, and its task if it has one."""


@dataclass(frozen=True)
class TaskSelection:
    """What a selection wrote.

    Attributes:
        plan: The plan.
        folder: Where everything lies.
        config: The config of the pruned task; None where a backbone was selected for alone.
        files: All files that were written; none in all but the first of several processes.
        share: What the cut saves of the task's whole model, in a sentence; None without a task.
    """

    plan: PruningPlan
    folder: Path
    config: Path | None
    files: tuple[Path, ...]
    share: str | None = None


@dataclass(frozen=True)
class SelectionRun:
    """A selection that writes into a folder.

    Attributes:
        name: What the results are called after.
        output: Folder for them; None for one called after the name.
        settings: How to select.
        blocks: Dotted name of the backbone's list of blocks, where it was named.
        overwrite: Replace results that are there.
        reporter: Is told how it goes.
        config: The config to rewrite, if there is one.
        probe: Probe every depth as well.
        convert: Write the config of the full task as well, as it was converted.
    """

    name: str
    output: str | Path | None
    settings: Settings
    blocks: str | None
    overwrite: bool
    reporter: Reporter
    config: TaskConfig | None = None
    probe: bool = False
    convert: bool = False

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return Path(self.output or f"{self.name}_simpler")

    @property
    def rewritten(self) -> Path | None:
        """Where the config of the pruned task goes."""
        return self.folder / f"{self.name}_simpler.yaml" if self.config is not None else None

    def check_free(self) -> None:
        """Refuse to write over results that are there.

        Raises:
            FileExistsError: If there are some, and they are not to be replaced.
        """
        outputs = [self.folder / name for name in RESULTS]
        outputs += [self.rewritten] if self.rewritten is not None else []
        outputs += self._full
        check_free(outputs, self.overwrite, self.reporter.option("overwrite", True))

    def __call__(self, build: Callable[[], Built]) -> TaskSelection:
        """Build, select and write.

        A selection that is finished is written, also where what follows it fails.
        """
        with results_folder(self.folder):
            self.reporter.say("Loading TerraTorch ...")
            from terratorch_simpler.lightning import rank

            # Every process of a selection on several devices runs this; one reports and writes.
            first = rank() == 0
            backbone, tiles, task = build()
            selection = self._select(backbone, tiles, task, first)
            failed: BaseException | None = None
            if task is not None and self.probe and self.settings.criterion != PROBE:
                try:
                    selection = self._with_probe(selection, task)
                except (Exception, KeyboardInterrupt) as error:
                    failed = error
            if not first:
                if failed is not None:
                    raise failed
                return TaskSelection(selection.plan, self.folder, self.rewritten, ())
            try:
                plan, files = self._render(selection, backbone)
            except (Exception, KeyboardInterrupt) as error:
                failed = failed or error
                plan = selection.plan
                files = {self._plan: plan.to_json(), **self._config_of(plan)}
            write_files(files, self.overwrite)
            if failed is not None:
                self._say_what_is_there(failed, files)
            share = None if task is None else self._share(selection, task)
            return TaskSelection(plan, self.folder, self.rewritten, tuple(files), share)

    @staticmethod
    def _share(selection: Selection, task: Task) -> str:
        from terratorch_simpler.task.share import share_sentence

        return share_sentence(task, selection.example, selection.plan.kept_blocks)

    def _say_what_is_there(self, failed: BaseException, files: Mapping[Path, Any]) -> NoReturn:
        """Raise what failed after the selection, and say that the selection is written."""
        there = f"the selection is finished, and written: {', '.join(map(str, files))}"
        if isinstance(failed, ValueError | OSError):
            raise ValueError(f"{one_line(failed)} ({there})") from failed
        self.reporter.say(f"What follows the selection failed; {there}")
        raise failed

    def _select(self, backbone: Backbone, tiles: Any, task: Task | None, first: bool) -> Selection:
        from lightning.fabric.utilities.exceptions import MisconfigurationException

        from terratorch_simpler.selection.select import run_selection

        if first:
            self.reporter.say(f"Measuring {backbone.depth} blocks of {backbone.label} ...")
        settings = replace(self.settings, progress=self.settings.progress and first)
        probing = None
        if task is not None and settings.criterion == PROBE:
            from terratorch_simpler.task.probe import probe_to_decide

            probing = partial(probe_to_decide, task, self._probing, self.reporter)
        try:
            selection = run_selection(backbone, tiles, settings, probing)
        except (MisconfigurationException, ImportError) as error:
            option = self.reporter.option
            raise ValueError(
                f"Lightning cannot run with {option('accelerator', settings.accelerator)} and "
                f"{option('precision', settings.precision)}: {one_line(error)}"
            ) from error
        config = None if self.config is None else str(self.config.path)
        made = Made.now(self.reporter.command, config)
        return replace(selection, plan=selection.plan.model_copy(update={"made": made}))

    def _with_probe(self, selection: Selection, task: Task) -> Selection:
        """The selection with what every depth offers on the labelled tiles in its plan."""
        from terratorch_simpler.results.wording import disagreement, with_probe
        from terratorch_simpler.selection.select import SelectionWarning
        from terratorch_simpler.task.probe import probe_task

        probe = probe_task(task, self._probing, selection.plan, self.reporter)
        plan = with_probe(selection.plan, probe)
        for message in disagreement(plan):
            warnings.warn(message, SelectionWarning, stacklevel=3)
        return replace(selection, plan=plan)

    @property
    def _probing(self) -> ProbeSettings:
        from terratorch_simpler.probing.probe import ProbeSettings

        settings = self.settings
        return ProbeSettings(
            seed=settings.seed or 0,
            accelerator=settings.accelerator,
            progress=settings.progress,
            share=settings.share,
        )

    def _render(
        self, selection: Selection, backbone: Backbone
    ) -> tuple[PruningPlan, dict[Path, str | bytes]]:
        """The plan with what was measured for its report, and every file's content."""
        from terratorch_simpler.profiling.savings import measure_savings
        from terratorch_simpler.report import picture, report_files

        savings = measure_savings(backbone.module, selection.pruned, selection.example)
        plan = selection.plan.model_copy(update={"savings": savings})
        pictures = {name: picture(image) for name, image in selection.thumbnails.images.items()}
        rendered = report_files(plan, self._plan.as_posix(), pictures)
        files = {self.folder / name: content for name, content in rendered.items()}
        return plan, {self._plan: plan.to_json()} | files | self._config_of(plan)

    @property
    def _full(self) -> dict[Path, str | bytes]:
        """The config of the full task, if it was converted and is asked for."""
        full = self.config.full if self.config is not None and self.convert else None
        return {self.folder / f"{self.name}_full.yaml": full} if full is not None else {}

    @property
    def _plan(self) -> Path:
        return self.folder / "plan.json"

    def _config_of(self, plan: PruningPlan) -> dict[Path, str | bytes]:
        """The config that follows a plan, if there is one to rewrite."""
        from terratorch_simpler.task.rewrite import simpler_config

        if self.config is None or self.rewritten is None:
            return {}
        text = simpler_config(self.config, plan.spec, self._plan.as_posix(), self.blocks)
        return {self.rewritten: text} | self._full
