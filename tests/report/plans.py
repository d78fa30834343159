"""Plans with everything that a report can show."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np

from terratorch_simpler.report import picture
from terratorch_simpler.results.answers import Answers
from terratorch_simpler.results.finetuned import FineTuned
from terratorch_simpler.results.made import Made
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.results.savings import Cost, Savings
from terratorch_simpler.results.tiles import TakenFor
from tests.conftest import MakePlan

PROBE = Probe(
    backbone="x",
    task="segmentation",
    metric="mIoU",
    scores={layer: 0.2 + 0.01 * layer for layer in range(13)},
    others={},
    penalties=dict.fromkeys(range(13), 1.0),
    train_tiles=40,
    val_tiles=20,
    reference="best",
    errors={layer: 0.01 * (12 - layer) for layer in range(13)},
    depth_shares={11: 0.25, 12: 0.75},
    depth_interval=(11, 12),
)
SAVINGS = Savings(
    Cost(5_600_000, 2_000_000_000, 0.2, 40_000_000), Cost(2_800_000, 1_000_000_000, 0.1, 10_000_000)
)
FINETUNED = [
    FineTuned("full", 12, 6_000_000, 120.0, 60.0, "mIoU", 0.25, [0.05, 0.2, 0.25]),
    FineTuned("simpler", 4, 2_000_000, 80.0, 20.0, "mIoU", 0.24, [0.15, 0.22, 0.25]),
]
MADE = Made(
    at=datetime(2026, 3, 1, 14, 5, 9, tzinfo=timezone(timedelta(hours=2))),
    command="terratorch-simpler select --config 'my task.yaml' --output chosen",
    config="my task.yaml",
)
CORNERS = np.array([[0, 1], [2, -1]]).repeat(4, 0).repeat(4, 1)
"""A class a quarter of a tile, and one without a label."""
ANSWERS = Answers(
    "segmentation",
    np.full((2, 8, 8, 3), 90, np.uint8),
    np.stack([CORNERS, CORNERS]),
    np.stack([CORNERS, CORNERS]) >= 0,
    {
        "full": np.stack([np.abs(CORNERS), np.zeros_like(CORNERS)]),
        "simpler": np.stack([np.maximum(CORNERS, 1), np.zeros_like(CORNERS)]),
    },
    ("farm", "forest", "water"),
)
PICTURES = {
    name: picture(np.full((8, 8, 3), 80 * index, np.uint8))
    for index, name in enumerate(("a.tif", "b.tif"), 1)
}


def rich_plan(make_plan: MakePlan) -> PruningPlan:
    """A plan with everything that can be measured beside the choice."""
    plan = make_plan(name="prithvi_eo_v2_tiny_tl")
    taken = TakenFor(scenes=2, bands={"BLUE": "B02", "RED": "B04"}, sensor="Sentinel-2")
    tiles = plan.tiles.model_copy(
        update={"taken_for": [taken], "means": [0.1, 0.2], "stds": [0.01, 0.02]}
    )
    return plan.model_copy(
        update={
            "depth_shares": {4: 0.75, 5: 0.25},
            "savings": SAVINGS,
            "probe": PROBE,
            "made": MADE,
            "finetuned": FINETUNED,
            "tiles": tiles,
            "warnings": ["the tiles do not settle the depth (4: 75%, 5: 25%)"],
        }
    )
