"""``terratorch-simpler report``: the report and the figures of a plan again, without torch."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console

from terratorch_simpler.files import check_free, results_folder, write_files
from terratorch_simpler.results.answers import ANSWERS, Answers
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.wording import decision_sentence


def run(options: Namespace) -> None:
    """Run the command.

    Raises:
        ValueError: If the file is no plan, or a plan that contradicts itself, or the answers of
            fine-tuned models beside it are no such thing.
        OSError: If it is missing, a file is there already, or cannot be written.
    """
    path = Path(options.plan)
    plan = PruningPlan.load(path)
    beside = path.parent
    folder = beside if options.output is None else Path(options.output)
    from terratorch_simpler.report import PAGE, REPORT, read_pictures, report_files

    earlier = read_pictures(beside / PAGE)
    # To write a plan's own report again is what the command is for; other files stay.
    replace = earlier is not None and folder.resolve() == beside.resolve()
    outputs = [folder / name for name in REPORT]
    check_free(outputs, options.overwrite or replace, option="--overwrite")
    pictures = earlier or read_pictures(folder / PAGE) or {}
    used = {name: png for name, png in pictures.items() if name in plan.tiles.names}
    # Answers of other models than the plan's are no part of its report.
    answers = Answers.read(beside / ANSWERS) if (beside / ANSWERS).is_file() else None
    trained = [model.name for model in plan.finetuned or []]
    if answers is not None and list(answers.models) != trained:
        answers = None
    with results_folder(folder):
        files = report_files(plan, path.as_posix(), used, answers)
        write_files({folder / name: files[name] for name in REPORT}, options.overwrite or replace)
    console = Console(quiet=options.quiet, highlight=False)
    console.print(f"[bold]{decision_sentence(plan)}[/bold]", soft_wrap=True)
    console.print("Written: " + ", ".join(map(str, outputs)), soft_wrap=True)
