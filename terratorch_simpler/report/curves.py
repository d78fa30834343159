"""Scores of the validation over the epochs of fine-tuned models: the geometry of their chart."""

from __future__ import annotations

from collections.abc import Sequence

from terratorch_simpler.report.depth_chart import GAP, HEIGHT, Chart, Line, Mark, Panel, Scale
from terratorch_simpler.results.finetuned import FineTuned

KINDS = ("parameters", "time", "memory")
"""Classes that colour the lines, in turn; those of costs."""
TOP = 24.0
NUMBERS = 15
"""Most epochs that are numbered."""


def curves_chart(models: Sequence[FineTuned]) -> Chart | None:
    """The validation of every epoch, a line a model; None where no model's is known."""
    known = {model.name: model.validation for model in models if model.validation}
    if not known:
        return None
    metric = models[0].metric
    epochs = max(map(len, known.values()))
    scores = [score for validation in known.values() for score in validation]
    # Column 0 is left for nothing: epochs are counted from 1.
    scale = Scale(epochs, TOP, min(scores), max(scores))
    lines = [Line(name, KINDS[index % len(KINDS)], []) for index, name in enumerate(known)]
    for epoch in range(1, epochs + 1):
        there = {name: values[epoch - 1] for name, values in known.items() if epoch <= len(values)}
        # Points of several lines can lie on each other: each says all of them.
        said = ", ".join(f"{name} {score:.3f}" for name, score in there.items())
        for line in lines:
            if line.name in there:
                y = scale.y(there[line.name])
                title = f"epoch {epoch}: {metric} of {said}"
                line.marks.append(Mark(scale.x(epoch), y, y, y, line.kind, title))
    name = f"Validation {metric}"
    every = max(1, -(-epochs // NUMBERS))
    shown = sorted({*range(every, epochs + 1, every), epochs})
    last = ", ".join(f"{model} {values[-1]:.3f}" for model, values in known.items())
    return Chart(
        [Panel(name, "after each epoch", TOP, scale.ticks(), lines=lines)],
        "epoch",
        [(scale.x(epoch), str(epoch)) for epoch in shown],
        None,
        TOP + HEIGHT + GAP - 2,
        round(scale.x(1) - scale.x(0), 2),
        f"{name} after each of {epochs} epochs; after the last: {last}",
    )
