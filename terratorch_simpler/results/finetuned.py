"""What came of fine-tuning: the full model and pruned ones side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(gt=0)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model: its size, its times and its accuracy.

    Attributes:
        name: ``full``, or the criterion that chose its depth.
        depth: Blocks of its backbone.
        parameters: Parameters of the whole model, decoder and head included.
        step_ms: Median milliseconds of a training step.
        inference_ms: Median milliseconds of inference on a batch of the same size.
        metric: What the score is; more is better.
        score: On the tiles that it was tested on.
    """

    name: str
    depth: Count
    parameters: Count
    step_ms: Milliseconds
    inference_ms: Milliseconds
    metric: str
    score: Annotated[float, Field(allow_inf_nan=False)]


def finetuned_rows(models: Sequence[FineTuned]) -> list[tuple[str, ...]]:
    """Rows of a table with a column for each model, whose first is the full one.

    Args:
        models: At least one; all of one metric.
    """
    full = models[0]

    def times(a: float, b: float, word: str) -> str:
        return f" ({a / b:.2f}x {word})" if a != b and b else ""

    def share(model: FineTuned) -> str:
        kept = model is not full and full.score > 0
        return f" ({model.score / full.score:.0%} kept)" if kept else ""

    return [
        ("blocks", *(str(m.depth) for m in models)),
        (
            "parameters of the model (M)",
            *(
                f"{m.parameters / 1e6:.2f}{times(full.parameters, m.parameters, 'fewer')}"
                for m in models
            ),
        ),
        (
            "ms per training step",
            *(f"{m.step_ms:.0f}{times(full.step_ms, m.step_ms, 'faster')}" for m in models),
        ),
        (
            "ms per batch at inference",
            *(
                f"{m.inference_ms:.0f}{times(full.inference_ms, m.inference_ms, 'faster')}"
                for m in models
            ),
        ),
        (f"{full.metric} on the test tiles", *(f"{m.score:.3f}{share(m)}" for m in models)),
    ]


def to_json(models: Sequence[FineTuned]) -> str:
    """All of it as indented JSON."""
    return json.dumps([asdict(model) for model in models], indent=1) + "\n"
