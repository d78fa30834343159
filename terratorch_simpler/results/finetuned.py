"""What came of fine-tuning: the full model and pruned ones side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, RootModel, SerializerFunctionWrapHandler, model_serializer
from pydantic.dataclasses import dataclass

Count = Annotated[int, Field(gt=0)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Score = Annotated[float, Field(allow_inf_nan=False)]
Quartiles = tuple[Milliseconds, Milliseconds]
Row = tuple[str, ...]


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
        validation: The metric on the validation tiles after each epoch; None in records that do
            not say.
        step_quartiles: Milliseconds between which the middle half of the training steps lies; None
            likewise.
        inference_quartiles: The same of inference.
    """

    name: str
    depth: Count
    parameters: Count
    step_ms: Milliseconds
    inference_ms: Milliseconds
    metric: str
    score: Score
    validation: Annotated[list[Score], Field(min_length=1)] | None = None
    step_quartiles: Quartiles | None = None
    inference_quartiles: Quartiles | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_known(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # A record that does not say it is written back as it was.
        return {name: value for name, value in serialize(self).items() if value is not None}


def finetuned_rows(models: Sequence[FineTuned]) -> list[Row]:
    """Rows of a table with a column for each model, whose first is the full one.

    Args:
        models: At least one; all of one metric.
    """
    full = models[0]

    def row(name: str, values: Sequence[float], style: str, less: str, more: str) -> Row:
        whole = values[0]
        return (name, *(format(a, style) + _times(whole, a, less, more) for a in values))

    shares = [""] + [
        f" ({model.score / full.score:.0%} kept)" if full.score > 0 else "" for model in models[1:]
    ]
    scores = [f"{model.score:.3f}{share}" for model, share in zip(models, shares, strict=True)]
    parameters = [model.parameters / 1e6 for model in models]
    steps = [model.step_ms for model in models]
    inference = [model.inference_ms for model in models]
    return [
        ("blocks", *(str(model.depth) for model in models)),
        row("parameters of the model (M)", parameters, ".2f", "fewer", "more"),
        row("ms per training step", steps, ".0f", "faster", "slower"),
        *_spread([model.step_quartiles for model in models]),
        row("ms per batch at inference", inference, ".0f", "faster", "slower"),
        *_spread([model.inference_quartiles for model in models]),
        (f"{full.metric} on the test tiles", *scores),
    ]


def _spread(quartiles: Sequence[Quartiles | None]) -> list[Row]:
    """A row of quartiles and of the ratios they leave open; none where one is unknown."""
    known = [each for each in quartiles if each is not None]
    if len(known) < len(quartiles):
        return []
    low, high = known[0]
    # Short, so that four columns fit into a terminal.
    cells = [f"{low:.0f}-{high:.0f}"]
    cells += [f"{a:.0f}-{b:.0f} ({low / b:.1f}-{high / a:.1f}x)" for a, b in known[1:]]
    return [("  middle half of them", *cells)]


def _times(whole: float, part: float, less: str, more: str) -> str:
    """How many times less, or more, than the whole; nothing where they are the same."""
    if part == whole:
        return ""
    return f" ({whole / part:.2f}x {less})" if part < whole else f" ({part / whole:.2f}x {more})"


def to_json(models: Sequence[FineTuned]) -> str:
    """All of it as indented JSON."""
    return json.dumps(RootModel(list(models)).model_dump(), indent=1) + "\n"
