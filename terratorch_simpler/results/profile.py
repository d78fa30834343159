"""What every depth costs: one row a depth, exact, measured or interpolated."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields

from terratorch_simpler.results.parts import Part, Split
from terratorch_simpler.results.shown import Shown


@dataclass(frozen=True)
class Row:
    """What one depth costs, for one batch.

    Attributes:
        depth: Blocks kept: the first ones.
        parameters: Number of parameters.
        flops: Floating-point operations of a forward pass of the batch.
        inference_seconds: Time of a forward pass without gradients, the median of all rounds.
        images_per_second: Throughput of inference.
        inference_bytes: Most bytes of tensors at once in inference, weights and batch included;
            None where the device keeps no record.
        step_seconds: Time of a training step (forward, mean square of the output, backward, AdamW),
            the median of all rounds.
        step_bytes: Most bytes of tensors at once in a training step, with the weights, their
            gradients and the state of AdamW.
        times: ``measured`` or ``interpolated``: the times and the bytes. The rest is exact.
        inference_fastest: Shortest time of inference in any round; None where it was interpolated.
        inference_slowest: Longest, likewise.
        step_fastest: Shortest time of a training step, likewise.
        step_slowest: Longest, likewise.
        compile_seconds: Time of the first pass and the first training step, in which torch.compile
            compiles; None where the depth was not compiled.
    """

    depth: int
    parameters: int
    flops: int
    inference_seconds: float
    images_per_second: float
    inference_bytes: int | None
    step_seconds: float
    step_bytes: int | None
    times: str
    inference_fastest: float | None = None
    inference_slowest: float | None = None
    step_fastest: float | None = None
    step_slowest: float | None = None
    compile_seconds: float | None = None


@dataclass(frozen=True)
class Loader:
    """How fast the loader of a datamodule delivers training images, without a model.

    Attributes:
        images_per_second: Its rate after the first batch.
        batches: How many were timed.
        workers: Its ``num_workers``.
    """

    images_per_second: float
    batches: int
    workers: int


@dataclass(frozen=True, repr=False)
class Profile(Shown):
    """Costs at every depth.

    Attributes:
        label: What was measured.
        device: Where.
        batch_size: Images in a batch.
        images: Shape of one image, by modality where there are several.
        rows: One a depth, from 1 on.
        residual: Largest relative error of the interpolation where it was checked; None where every
            depth was measured.
        split: Where the time goes at full depth; None in profiles that do not say.
        chosen: Depth of the plan that the profile was made for, if there was one.
        precision: In what it computed, in Lightning's words.
        compiled: Whether the rows are those of compiled models. The split never is.
        findings: What is slow and should not be, a line each.
        loader: How fast the training images come, if that was asked for.
    """

    label: str
    device: str
    batch_size: int
    images: str
    rows: tuple[Row, ...]
    residual: float | None
    split: Split | None = None
    chosen: int | None = None
    precision: str = "32-true"
    compiled: bool = False
    findings: tuple[str, ...] = ()
    loader: Loader | None = None

    def __repr__(self) -> str:
        first, last = self.rows[0], self.rows[-1]
        return (
            f"Profile: {self.label} at depths {first.depth} to {last.depth}, "
            f"{first.parameters / 1e6:.2f} to {last.parameters / 1e6:.2f} M parameters\n"
            f"  {self.images} in batches of {self.batch_size} on {self.device}; see .summary() and "
            ".plot()"
        )

    def row(self, depth: int) -> Row:
        """Costs at a depth.

        Raises:
            ValueError: If there is no such depth.
        """
        if not 1 <= depth <= len(self.rows):
            raise ValueError(f"depth must be 1 to {len(self.rows)}, got {depth}")
        return self.rows[depth - 1]

    @property
    def title(self) -> str:
        """What was measured, with what, where and how."""
        how = ("" if self.precision == "32-true" else f", {self.precision}") + (
            ", compiled" if self.compiled else ""
        )
        return f"{self.label}: batches of {self.batch_size}, {self.images}, on {self.device}{how}"

    @property
    def parts(self) -> tuple[Part, ...]:
        """What every part of the model costs at full depth, in the order in which they run.

        Empty in profiles that do not say.
        """
        return self.split.parts if self.split is not None else ()

    @property
    def named_depth(self) -> int:
        """The depth that is named beside the full one: the plan's, or a third of the blocks."""
        return self.chosen if self.chosen is not None else max(1, round(len(self.rows) / 3))

    @property
    def spread(self) -> tuple[float, float] | None:
        """Fastest and slowest round at any depth, as shares of that depth's median time.

        None in profiles that do not say.
        """
        shares = [
            time / middle
            for row in self.rows
            for middle, times in (
                (row.inference_seconds, (row.inference_fastest, row.inference_slowest)),
                (row.step_seconds, (row.step_fastest, row.step_slowest)),
            )
            for time in times
            if time is not None
        ]
        return (min(shares), max(shares)) if shares else None

    def to_csv(self) -> str:
        """The rows as CSV, with a header; what was not measured is empty."""
        text = io.StringIO()
        columns = [field.name for field in fields(Row)]
        if not self.compiled:
            columns.remove("compile_seconds")
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return text.getvalue()
