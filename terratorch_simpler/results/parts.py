"""Where the time of a model goes, by part, in inference and in a training step."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass

PATCH, BLOCKS, NORM, NECKS, DECODER, HEAD = (
    "patch embedding",
    "blocks",
    "norm and outputs",
    "necks",
    "decoder",
    "head",
)
"""The parts of a model, in the order in which they run."""


@dataclass(frozen=True)
class Part:
    """What one part of a model costs, for one batch.

    Attributes:
        name: ``patch embedding`` (everything before the first block), ``blocks``, ``norm and
            outputs`` (of the backbone, after its last block), ``necks``, ``decoder`` or ``head``
            (with auxiliary heads, and rescaling to the size of the image).
        parameters: Number of parameters of the modules that run first in this part.
        trained: How many of them require a gradient.
        flops: Floating-point operations of a forward pass.
        inference_seconds: Time of it in a forward pass without gradients.
        forward_seconds: Time of it in the forward pass of a training step.
        backward_seconds: Time of it in the backward pass.
        kept_bytes: What its forward pass keeps for its backward pass, weights and batch left out.
        state_bytes: Weights, buffers, gradients and the state of AdamW.
    """

    name: str
    parameters: int
    trained: int
    flops: int
    inference_seconds: float
    forward_seconds: float
    backward_seconds: float
    kept_bytes: int
    state_bytes: int

    @property
    def step_bytes(self) -> int:
        """Bytes that it holds between the forward and the backward pass of a training step."""
        return self.kept_bytes + self.state_bytes


@dataclass(frozen=True)
class Split:
    """What every part of a model costs at full depth. Times are medians of the same rounds.

    Attributes:
        depth: Blocks of the model.
        parts: Those of a backbone alone are three, those of a task's model up to six.
        optimizer_seconds: Time of the optimizer's update, for all parts.
        inference_seconds: Time of inference as a whole, measured without the parts.
        step_seconds: The same of a training step.
    """

    depth: int
    parts: tuple[Part, ...]
    optimizer_seconds: float
    inference_seconds: float
    step_seconds: float

    @property
    def inference_sum(self) -> float:
        """Seconds of inference of all parts."""
        return sum(part.inference_seconds for part in self.parts)

    @property
    def step_sum(self) -> float:
        """Seconds of a training step of all parts, with the optimizer's update."""
        return sum(self.step_seconds_of(part) for part in self.parts)

    def part(self, name: str) -> Part:
        """A part by its name.

        Raises:
            ValueError: If the model has no such part.
        """
        for part in self.parts:
            if part.name == name:
                return part
        names = ", ".join(part.name for part in self.parts)
        raise ValueError(f"no part {name!r}: there are {names}")

    def update_seconds_of(self, part: Part) -> float:
        """A part's share of the optimizer's update, by what is trained of it."""
        return self.optimizer_seconds * part.trained / sum(part.trained for part in self.parts)

    def step_seconds_of(self, part: Part) -> float:
        """Seconds of a part in a training step: forward, backward and its share of the update."""
        return part.forward_seconds + part.backward_seconds + self.update_seconds_of(part)

    @property
    def inference_share(self) -> float:
        """Share of the blocks in inference."""
        return self.part(BLOCKS).inference_seconds / self.inference_sum

    @property
    def step_share(self) -> float:
        """Share of the blocks in a training step."""
        return self.step_seconds_of(self.part(BLOCKS)) / self.step_sum

    def to_csv(self) -> str:
        """The parts as CSV, with a header; the last row is the whole as it was measured."""
        rows = [
            asdict(part)
            | {
                "update_seconds": self.update_seconds_of(part),
                "step_seconds": self.step_seconds_of(part),
            }
            for part in self.parts
        ]
        whole = {name: sum(row[name] for row in rows) for name in rows[0] if name != "name"}
        whole |= {
            "name": "whole",
            "inference_seconds": self.inference_seconds,
            "step_seconds": self.step_seconds,
        }
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, whole])
        return text.getvalue()
