"""A folder that a model hub takes as it is: ``config.json``, ``model.safetensors`` and a card."""

from __future__ import annotations

from dataclasses import asdict
from errno import EIO
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from terratorch_simpler.exporting.card import render_card
from terratorch_simpler.exporting.formats.terratorch import class_path
from terratorch_simpler.exporting.hub import HubModel
from terratorch_simpler.messages import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from terratorch_simpler.exporting.card import Row
    from terratorch_simpler.exporting.source import Source

CARD, WEIGHTS = "README.md", "model.safetensors"


def write(source: Source, folder: Path) -> None:
    """Write the model as :class:`~terratorch_simpler.HubModel` reads it."""
    arguments = {
        key: value for key, value in source.arguments.items() if value is not None and key != "task"
    }
    model = HubModel(
        task=class_path(source),
        arguments=arguments,
        deployment=source.deployment.model_dump(mode="json"),
        parent=asdict(source.parent),
    )
    model.model.load_state_dict(source.model.state_dict())
    plan = source.saved.plan
    (folder / CARD).write_text(render_card(source.deployment, source.parent, plan))
    if plan is not None:
        (folder / "plan.json").write_text(plan.to_json())
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(EIO, one_line(error)) from error
    # Its library makes it readable for its owner alone.
    (folder / WEIGHTS).chmod((folder / CARD).stat().st_mode)


def add_checked(source: Source, folder: Path, rows: Sequence[Row], columns: Row) -> None:
    """Write the card again, with what was measured of the export."""
    card = render_card(source.deployment, source.parent, source.saved.plan, rows, columns)
    (folder / CARD).write_text(card)
