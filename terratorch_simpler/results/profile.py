"""What every depth costs: one row a depth, exact, measured or interpolated."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields

from terratorch_simpler.results.shown import Shown


@dataclass(frozen=True)
class Row:
    """What one depth costs, for one batch.

    Attributes:
        depth: Blocks kept: the first ones.
        parameters: Number of parameters.
        flops: Floating-point operations of a forward pass of the batch.
        inference_seconds: Time of a forward pass without gradients.
        images_per_second: Throughput of inference.
        inference_bytes: Most bytes of tensors at once in inference, weights and batch included;
            None where the device keeps no record.
        step_seconds: Time of a training step: forward, mean square of the output, backward, AdamW.
        step_bytes: Most bytes of tensors at once in a training step, with the weights, their
            gradients and the state of AdamW.
        times: ``measured`` or ``interpolated``: the times and the bytes. The rest is exact.
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
    """

    label: str
    device: str
    batch_size: int
    images: str
    rows: tuple[Row, ...]
    residual: float | None

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

    def to_csv(self) -> str:
        """The rows as CSV, with a header; what was not measured is empty."""
        text = io.StringIO()
        columns = [field.name for field in fields(Row)]
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.rows)
        return text.getvalue()
