"""The model card: where a model comes from, how deep it is and why, and how to run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from terratorch_simpler.results.blocks import block_ranges
from terratorch_simpler.results.deployment import OF_PIXELS, Deployment
from terratorch_simpler.results.finetuned import finetuned_rows
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.wording import (
    decision_sentence,
    savings_rows,
    tiles_sentence,
    warnings_of,
)

TAGS = ("terratorch", "earth-observation", "depth-pruning")
PIPELINES = {
    "segmentation": "image-segmentation",
    "classification": "image-classification",
    "multilabel": "image-classification",
}
"""What the hub calls each task; it has no name for the others."""
UNKNOWN = "unknown"
"""The hub's word for a licence that is not known."""
Row = Sequence[str]


@dataclass(frozen=True)
class Parent:
    """What a model was fine-tuned from.

    Attributes:
        repository: Repository of its weights on the hub; None if there is none.
        licence: Their licence, as the hub writes it; None if unknown.
        file: Name of the file of weights, where one was given.
    """

    repository: str | None = None
    licence: str | None = None
    file: str | None = None


def render_card(
    deployment: Deployment,
    parent: Parent,
    plan: PruningPlan | None = None,
    checked: Sequence[Row] = (),
    columns: Row = (),
) -> str:
    """The card as Markdown, with the metadata that the hub reads.

    Args:
        deployment: What the model expects and gives.
        parent: What it was fine-tuned from.
        plan: The plan that chose its blocks, if one did.
        checked: Rows of what was measured of the export.
        columns: Their columns.
    """
    environment = Environment(
        loader=PackageLoader("terratorch_simpler", "exporting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    finetuned = plan.finetuned if plan is not None else None
    text: str = environment.get_template("card.md.jinja").render(
        metadata=yaml.safe_dump(_metadata(deployment, parent), sort_keys=False),
        deployment=deployment,
        model=deployment.model,
        kept=block_ranges(list(deployment.model.kept_blocks)) if deployment.model else "",
        gives=_gives(deployment),
        parent=parent,
        decision=decision_sentence(plan) if plan is not None else None,
        warnings=warnings_of(plan) if plan is not None else [],
        tiles=tiles_sentence(plan.tiles) if plan is not None else None,
        savings=savings_rows(plan.savings) if plan is not None and plan.savings else [],
        finetuned=finetuned_rows(finetuned) if finetuned else [],
        names=["", *(one.name for one in finetuned)] if finetuned else [],
        checked=checked,
        columns=columns,
    )
    return text


def _gives(deployment: Deployment) -> str:
    """What the output is, and how it is read."""
    height, width = deployment.inputs[0].height, deployment.inputs[0].width
    channels = deployment.output.channels
    if deployment.task == "regression":
        return f"values [B, {height}, {width}]"
    if deployment.task == "multilabel":
        return f"logits [B, {channels}]; a class is there where its own is above 0"
    of = (
        f"[B, {channels}, {height}, {width}]"
        if deployment.task in OF_PIXELS
        else f"[B, {channels}]"
    )
    if channels == 1:
        return f"logits {of}; above 0 is the second of two classes"
    return f"logits {of}; the largest is the class"


def _metadata(deployment: Deployment, parent: Parent) -> dict[str, object]:
    metadata: dict[str, object] = {
        "library_name": "terratorch-simpler",
        "license": parent.licence or UNKNOWN,
        "tags": [*TAGS],
    }
    if deployment.task in PIPELINES:
        metadata["pipeline_tag"] = PIPELINES[deployment.task]
    if parent.repository is not None:
        metadata["base_model"] = parent.repository
    return metadata
