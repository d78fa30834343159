"""``terratorch-simpler demo``: the main job on the embedded sample, full against pruned."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from terratorch_simpler.cli.console import ConsoleReporter
from terratorch_simpler.cli.select import show
from terratorch_simpler.criteria import PROBE
from terratorch_simpler.files import check_free, make_folder, write_files
from terratorch_simpler.messages import Reporter
from terratorch_simpler.results.answers import ANSWERS, Answers
from terratorch_simpler.results.finetuned import finetuned_rows, to_json
from terratorch_simpler.task.finetune import Trained, fine_tune
from terratorch_simpler.task.run import RESULTS, TaskSelection
from terratorch_simpler.task.sample import TASK, sample_config
from terratorch_simpler.task.select import select_task

CRITERIA = ("simpler", PROBE)
"""Who chooses: tiles alone, into the folder itself, and labels, into a folder in it."""
COMPARISON = "demo.json"
SELECTION_MINUTES, EPOCH_MINUTES = 0.7, 0.38
"""On two CPU cores, with the sample's own backbone: both selections, and an epoch of all models."""


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If the output folder cannot be written, there is nothing to train, or the
            backbone cannot be cut or loaded.
        FileExistsError: If it holds results already and ``--overwrite`` is not given.
    """
    console = Console(quiet=options.quiet, highlight=False)
    if options.epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {options.epochs}")
    reporter = ConsoleReporter(console, options.command_line)
    demo = Demo(console, reporter, Path(options.output), options.epochs, options.overwrite)
    demo.write_task(options.backbone)
    chosen = {criterion: demo.select(criterion) for criterion in CRITERIA}
    first = chosen[CRITERIA[0]]
    trained = [demo.fine_tune("full", demo.task, first.plan.total_depth)]
    for criterion, done in chosen.items():
        assert done.config is not None
        if done.plan.depth not in [one.model.depth for one in trained]:
            trained.append(demo.fine_tune(criterion, done.config, done.plan.depth))
    demo.compare(trained, chosen)


class Demo:
    """The steps of the demo, numbered, each with the command that does the same.

    Args:
        console: Where they are shown.
        reporter: Is told how the selections go.
        folder: Folder for everything.
        epochs: Epochs of each fine-tuning.
        overwrite: Replace results that are there.
    """

    def __init__(
        self, console: Console, reporter: Reporter, folder: Path, epochs: int, overwrite: bool
    ) -> None:
        self.console, self.reporter, self.folder = console, reporter, folder
        self.epochs, self.overwrite = epochs, overwrite
        self.progress = not console.quiet and sys.stdout.isatty()
        self.task = folder / TASK
        self._steps = 0

    def write_task(self, backbone: str | None) -> None:
        """Write the sample's config, where nothing is in the way."""
        names = (*RESULTS, ANSWERS, f"{self.task.stem}_simpler.yaml")
        outputs = [self.task, self.folder / COMPARISON]
        outputs += [self._place(criterion) / name for criterion in CRITERIA for name in names]
        check_free(outputs, self.overwrite, option="--overwrite")
        if backbone is None:
            minutes = SELECTION_MINUTES + EPOCH_MINUTES * self.epochs
            self.console.print(
                f"Two selections and up to three fine-tunings of {self.epochs} epochs: about "
                f"{minutes:.0f} minutes on two CPU cores. Everything goes into {self.folder}."
            )
        else:
            self.console.print(
                f"{backbone} with its pre-trained weights, from the cache of the Hugging Face hub "
                "or from the hub itself. A large backbone takes long on a CPU: --epochs 1 shows "
                "how long."
            )
        text = sample_config(backbone)
        make_folder(self.folder)
        write_files({self.task: text}, self.overwrite)

    def _place(self, criterion: str) -> Path:
        return self.folder if criterion == CRITERIA[0] else self.folder / criterion

    def _step(self, title: str, command: str) -> float:
        self._steps += 1
        self.console.rule(f"{self._steps}. {title}")
        self.console.print(f"$ {command}", soft_wrap=True)
        return time.perf_counter()

    def select(self, criterion: str) -> TaskSelection:
        """Choose a depth."""
        folder = self._place(criterion)
        start = self._step(
            "Choose the depth " + ("with labels" if criterion == PROBE else "from tiles alone"),
            f"terratorch-simpler select --config {self.task} --criterion {criterion} "
            f"--output {folder}",
        )
        chosen = select_task(
            self.task,
            folder,
            criterion=criterion,
            overwrite=self.overwrite,
            reporter=self.reporter,
            progress=self.progress,
        )
        show(self.console, chosen)
        self.console.print(f"{time.perf_counter() - start:.0f} s")
        return chosen

    def fine_tune(self, name: str, config: Path, depth: int) -> Trained:
        """Fine-tune a config's model, and test it."""
        start = self._step(
            f"Fine-tune {_blocks(depth)} ({name})",
            f"terratorch fit -c {config} --trainer.max_epochs {self.epochs}",
        )
        folder = self.folder / "runs" / name
        say = None if self.progress else self.console.print
        trained = fine_tune(config, folder, self.epochs, name, depth, say)
        found = trained.model
        self.console.print(
            f"{_blocks(depth)}: {found.metric} {found.score:.3f} after {self.epochs} epochs, "
            f"{time.perf_counter() - start:.0f} s"
        )
        return trained

    def compare(self, trained: list[Trained], chosen: dict[str, TaskSelection]) -> None:
        """Show the models side by side: here, in the reports and in ``demo.json``."""
        from terratorch_simpler.report import PAGE, read_pictures, report_files

        models = [one.model for one in trained]
        answers = Answers.together([one.answers for one in trained])
        files: dict[Path, str | bytes] = {self.folder / COMPARISON: to_json(models)}
        for done in chosen.values():
            plan = done.plan.model_copy(update={"finetuned": models})
            path = done.folder / "plan.json"
            pictures = read_pictures(done.folder / PAGE) or {}
            files[path] = plan.to_json()
            files[done.folder / ANSWERS] = answers.to_npz()
            rendered = report_files(plan, path.as_posix(), pictures, answers)
            files |= {done.folder / name: content for name, content in rendered.items()}
        write_files(files, overwrite=True)
        self.console.rule("Full against pruned")
        table = Table("", *(model.name for model in models), box=None, pad_edge=False)
        for row in finetuned_rows(models):
            table.add_row(*row)
        self.console.print(table)
        reports = ", ".join(str(done.folder / PAGE) for done in chosen.values())
        self.console.print(
            f"Open {reports}; the same numbers are in {self.folder / COMPARISON}.", soft_wrap=True
        )


def _blocks(depth: int) -> str:
    return f"{depth} block{'s' * (depth != 1)}"
