"""The paper's table with ours beside it, as Markdown: ``python -m studies.paper.table``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studies.paper.rows import Row, datasets, models, rows
from studies.paper.run import Result, Weights
from studies.tables import read_csv

HEADER = (
    "data set", "model", "paper: full", "simpler", "kept", "ours: full", "simpler", "kept",
    "blocks", "parameters", "training", "inference",
)  # fmt: skip
NOTES = (
    "In per cent: mIoU on MADOS, macro mAP on BigEarthNetV2, macro F1 on Sen4Map, accuracy on "
    "CIFAR-100. kept: simpler over full. Parameters are those of the whole model, training and "
    "inference how many times as fast it is, selection not counted. The recipe is ours, so that "
    "ours full is what ours simpler compares with. Empty: not known to us, or not run."
)
OVERALL = (
    "The paper, over its tasks: Prithvi-EO-2 300M keeps 5 of 24 blocks (64.57 M parameters, up to "
    "79 % fewer) and 94 % of its accuracy, and is 2.1x as fast in training and 2.6x in inference. "
    "We take its figures on BigEarthNetV2 and Sen4Map to be of that model. On MADOS it reports "
    "62.2 (simpler) and 69.6 (full) for a second model, of which we do not know for sure which it "
    "is; TerraMind is the likely one."
)
RANDOM = (
    "From random weights: these rows run. Their accuracies and blocks say nothing of the models, "
    "and the times of a single step next to nothing."
)


def format_table(results: Sequence[Result], weights: Weights) -> str:
    """One line a row of the kit, run or not; of several seeds the mean of each figure."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for row in rows():
        mine = [line for line in results if line.row == row.name and line.weights == weights]
        lines.append("| " + " | ".join(_cells(row, mine, weights)) + " |")
    return "\n".join(lines)


def _cells(row: Row, results: Sequence[Result], weights: Weights) -> list[str]:
    dataset, model = datasets()[row.dataset], models()[row.model]
    # Beside random weights the paper's figures would invite a comparison.
    reported: dict[str, float] = dataset["paper"].get(row.model, {}) if weights == "hub" else {}
    full = [line for line in results if line.variant == "full"]
    cut = [line for line in results if line.variant == "simpler"]
    ours = [_mean([100 * line.accuracy for line in lines]) for lines in (full, cut)]
    return [
        dataset["title"],
        model["title"],
        *_accuracies(reported.get("full"), reported.get("simpler")),
        *_accuracies(*ours),
        f"{'/'.join(str(n) for n in sorted({r.blocks for r in cut}))} of {row.depth}"
        if cut
        else "",
        " to ".join(f"{_mean([r.parameters / 1e6 for r in g]):.1f} M" for g in (full, cut) if g),
        _faster([r.train_seconds for r in full], [r.train_seconds for r in cut]),
        _faster([r.inference_ms for r in full], [r.inference_ms for r in cut]),
    ]


def _accuracies(full: float | None, simpler: float | None) -> list[str]:
    kept = f"{100 * simpler / full:.0f} %" if full and simpler is not None else ""
    return ["" if value is None else f"{value:.1f}" for value in (full, simpler)] + [kept]


def _faster(full: Sequence[float], cut: Sequence[float]) -> str:
    before, after = _mean(full), _mean(cut)
    return f"{before / after:.1f}x" if before and after else ""


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def main(table: Path = Path("paper/table.csv")) -> None:
    """Print the table.

    Args:
        table: The CSV file that ``studies.paper.run`` wrote; without one, ours is empty.
    """
    results: list[Result] = read_csv(Result, table)
    print(format_table(results, "hub"))
    print(f"\n{NOTES}\n\n{OVERALL}")
    if any(line.weights == "random" for line in results):
        print(f"\n{RANDOM}\n\n{format_table(results, 'random')}")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
