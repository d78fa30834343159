"""Whether smaller tiles choose the same depth: ``python -m studies.measure.cheaper ...``.

A pass over tiles of half their sides costs a quarter. Every backbone runs over all training tiles
of a task as they are and halved; both are then drawn alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from studies.measure.certainty import terms_of
from studies.measure.compose import Folders, compose
from studies.measure.samples import read, samples_of
from studies.records import Cheaper
from studies.tables import RESULTS, complete
from terratorch_simpler.criteria import OF_SIMILARITY
from terratorch_simpler.selection.certainty import cka
from terratorch_simpler.selection.groups import TILES_PER_GROUP

TABLE = RESULTS / "cheaper.csv"
CASES = (
    *(("eurosat", "dinov2"), ("dubai", "dinov2")),
    *(
        ("flood_water", "mae12"),
        ("gewata_landcover", "mae12"),
        ("eurosat_pictures", "mae_pictures"),
    ),
)
TILES, DRAWS = 128, 100
SIZE = TILES_PER_GROUP["tokens"]


def halve(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook that gives a backbone images of half their sides: means of 2 x 2 pixels."""
    del module
    image = inputs[0]
    small = nn.functional.avg_pool2d(image.flatten(1, -3), 2)
    return small.reshape(*image.shape[:-2], *small.shape[-2:]), *inputs[1:]


def compare(task: str, model: str, whole: Tensor, halved: Tensor) -> Iterator[Cheaper]:
    """The rows of one task and model.

    Args:
        task: Name of the task.
        model: Name of the model.
        whole: Samples of the tiles as they are, [tiles, layers, samples of a tile, width].
        halved: Of the tiles halved, in the same order.
    """
    everything = np.arange(len(whole) // SIZE * SIZE)
    tiles = min(TILES, len(everything))
    rng = np.random.default_rng(0)
    draws = [rng.permutation(len(whole))[:tiles] for _ in range(DRAWS)]
    matrices = [
        np.stack([cka(terms_of(samples, drawn, SIZE).sum(0)) for drawn in (everything, *draws)])
        for samples in (whole, halved)
    ]
    for name, criterion in OF_SIMILARITY.items():
        (depth, *of_draws), (small, *of_small) = (criterion.depths(m).tolist() for m in matrices)
        yield Cheaper(
            task,
            model,
            name,
            tiles,
            depth,
            DRAWS,
            sum(one == depth for one in of_draws),
            small,
            sum(one == depth for one in of_small),
            sum(a == b for a, b in zip(of_draws, of_small, strict=True)),
        )


def main(folders: Folders, table: Path = TABLE) -> None:
    """Measure what has no row yet.

    Args:
        folders: Where things lie.
        table: The CSV file of results, which is added to.
    """
    torch.set_grad_enabled(False)

    def make(task: str, model: str) -> Iterator[Cheaper]:
        config = compose(task, model, folders)
        arguments = config["model"]["init_args"]["model_args"]
        if arguments["backbone"].startswith("timm_"):
            # Position embeddings of another grid, as Prithvi makes them by itself.
            arguments["backbone_dynamic_img_size"] = True
        built = read(config)
        whole = samples_of(built)
        built.backbone.module.register_forward_pre_hook(halve)
        return compare(task, model, whole, samples_of(built))

    for rows in complete(Cheaper, table, CASES, make):
        print(f"{rows[0].task} {rows[0].model}", flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=False)
