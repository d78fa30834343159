"""What the terminal shows of a record: sentences and tables, printed or as text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from terratorch_simpler.results.blocks import block_ranges
from terratorch_simpler.results.limits import limit_lines
from terratorch_simpler.results.parts import Split
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.results.profile import Loader, Profile, Row
from terratorch_simpler.results.wording import (
    decision_sentence,
    others_rows,
    probe_columns,
    probe_rows,
    probe_sentence,
    savings_rows,
    tiles_sentence,
)

Part = Text | Table
# Short enough for a terminal of 80 characters.
PROFILE_COLUMNS = ("depth", "param. M", "GFLOPs", "ms", "images/s", "MB", "train ms", "train MB")

PART_COLUMNS = (
    *("param. M", "GFLOPs", "ms", "%"),
    *("fwd", "bwd", "update", "%", "MB"),
)


def plan_parts(plan: PruningPlan, warnings: Sequence[str] = ()) -> Iterator[Part]:
    """The decision, what it saves, what the others would keep, and the tiles.

    Args:
        plan: The plan; what a probe measured comes first.
        warnings: What to say after the decision.
    """
    if plan.probe is not None:
        yield from probe_parts(plan.probe)
    yield _bold(decision_sentence(plan))
    yield from (Text(f"warning: {warning}") for warning in warnings)
    if plan.savings is not None:
        yield table(("", "full", "pruned", "ratio"), savings_rows(plan.savings))
    decides = (f"{plan.criterion} (decides)", str(plan.depth), block_ranges(plan.kept_blocks))
    yield table(("criterion", "keeps", "blocks"), [decides, *others_rows(plan)])
    yield Text(tiles_sentence(plan.tiles))


def probe_parts(probe: Probe) -> Iterator[Part]:
    """The table of a probe, and what it comes to."""
    used = f"{probe.train_tiles} training and {probe.val_tiles} validation tiles"
    yield _bold(f"{probe.backbone}: {probe.task} on {used}, frozen")
    yield table(probe_columns(probe), probe_rows(probe), numbers=probe_columns(probe)[:-1])
    yield _bold(probe_sentence(probe))
    yield Text(f"{used} used, as the task gives them.")


def profile_parts(profile: Profile) -> Iterator[Part]:
    """The table of a profile and how good it is; then that of its parts."""
    yield _bold(profile.title)
    columns = profile_columns(profile)
    yield table(columns, profile_rows(profile), numbers=columns[:-1])
    yield Text("ms, MB, GFLOPs: one batch; MB: peak; train: one training step.")
    if profile.compiled:
        yield Text(
            "start s: the first pass and the first training step, in which torch.compile compiles."
        )
    if profile.spread is not None:
        fastest, slowest = profile.spread
        yield Text(
            f"Times are the median of the rounds: one took {fastest:.2f} to {slowest:.2f} times as "
            "long."
        )
    if profile.residual is not None:
        yield Text(
            f"Interpolation misses measured depths that were left out by {profile.residual:.1%} at "
            "most."
        )
    if profile.split is not None:
        eager = ", not compiled" if profile.compiled else ""
        yield _bold(f"By part, with all {profile.split.depth} blocks{eager}")
        yield table(("part", *PART_COLUMNS), part_rows(profile.split), numbers=PART_COLUMNS)
        yield Text("fwd, bwd, update: ms of a training step; MB: held between fwd and bwd.")
        yield Text(whole_sentence(profile.split))
    yield from (_bold(line) for line in limit_lines(profile))
    if profile.loader is not None:
        yield Text(loader_sentence(profile, profile.loader))
    yield from (Text(f"slow: {line}") for line in profile.findings)


def loader_sentence(profile: Profile, loader: Loader) -> str:
    """How fast the training images come, beside how fast they are used."""
    full = profile.batch_size / profile.rows[-1].step_seconds
    return (
        f"The loader alone delivers {loader.images_per_second:.0f} images a second "
        f"({loader.batches} batches after the first, num_workers {loader.workers}); the training "
        f"step takes {full:.0f}."
    )


def profile_columns(profile: Profile) -> tuple[str, ...]:
    """Columns of the table of a profile: of one that is compiled, its start in place of a rate."""
    columns = (*PROFILE_COLUMNS, "time, MB")
    if profile.compiled:
        return tuple("start s" if column == "images/s" else column for column in columns)
    return columns


def profile_rows(profile: Profile) -> list[tuple[str, ...]]:
    """Rows of a table: the columns of :func:`profile_columns`."""
    rows: list[tuple[str, ...]] = []
    for row in profile.rows:
        inference, step = (
            "-" if memory is None else f"{memory / 1e6:.0f}"
            for memory in (row.inference_bytes, row.step_bytes)
        )
        rows.append(
            (
                str(row.depth),
                f"{row.parameters / 1e6:.2f}",
                f"{row.flops / 1e9:.2f}",
                f"{1e3 * row.inference_seconds:.1f}",
                _start(row) if profile.compiled else f"{row.images_per_second:.1f}",
                inference,
                f"{1e3 * row.step_seconds:.1f}",
                step,
                row.times,
            )
        )
    return rows


def _start(row: Row) -> str:
    return "-" if row.compile_seconds is None else f"{row.compile_seconds:.1f}"


def part_rows(split: Split) -> list[tuple[str, ...]]:
    """Rows of a table: a part, and the columns of :data:`PART_COLUMNS`; the last is the sum."""
    parts = [
        (
            *(part.name, part.parameters, part.flops, part.inference_seconds),
            *(part.forward_seconds, part.backward_seconds, split.update_seconds_of(part)),
            part.step_bytes,
        )
        for part in split.parts
    ]
    total: tuple[Any, ...] = (
        "sum",
        *(sum(column) for column in list(zip(*parts, strict=True))[1:]),
    )
    return [
        (
            name,
            f"{parameters / 1e6:.2f}",
            _short(flops / 1e9, 2),
            _short(1e3 * inference),
            f"{100 * inference / split.inference_sum:.0f}",
            *(_short(1e3 * seconds) for seconds in (forward, backward, update)),
            f"{100 * (forward + backward + update) / split.step_sum:.0f}",
            f"{held / 1e6:.0f}",
        )
        for name, parameters, flops, inference, forward, backward, update, held in [*parts, total]
    ]


def _short(value: float, decimals: int = 1) -> str:
    """A number of five digits at most, up to 99,999."""
    return f"{value:.{decimals if value < 1000 else 0}f}"


def whole_sentence(split: Split) -> str:
    """How the parts add up to what was measured without them."""
    return (
        f"Measured as a whole: {1e3 * split.inference_seconds:.1f} ms of inference (the parts come "
        f"to {split.inference_sum / split.inference_seconds - 1:+.1%}), "
        f"{1e3 * split.step_seconds:.1f} ms of a training step "
        f"({split.step_sum / split.step_seconds - 1:+.1%})."
    )


def print_parts(console: Console, parts: Iterable[Part]) -> None:
    """Print them; sentences are left to the terminal to break."""
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))


def as_text(parts: Iterable[Part], width: int = 120) -> str:
    """The same as plain text, with tables of this width at most."""
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, force_jupyter=False)
    print_parts(console, parts)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _bold(sentence: str) -> Text:
    return Text(sentence, style="bold")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> Table:
    """A table without lines.

    Args:
        columns: Names of its columns.
        rows: Its cells.
        numbers: Columns that hold numbers.
    """
    found = Table(box=None, pad_edge=False)
    for column in columns:
        # Numbers stand right, and on one line.
        right = column in numbers
        found.add_column(column, justify="right" if right else "left", no_wrap=bool(numbers))
    for row in rows:
        found.add_row(*row)
    return found
