"""The rows of every table of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator

Perhaps = Annotated[float | None, BeforeValidator(lambda value: None if value == "" else value)]
"""A number that need not be there: in a CSV file it is empty then."""


@dataclass(frozen=True)
class Row:
    """What came of a cell.

    Attributes:
        metric: Name of the accuracy.
        accuracy: On the test tiles, after the last epoch.
        epochs: How many there were.
        parameters: Of the whole model.
        seconds: Of training, on ``threads`` threads.
        threads: Threads that torch computed with.
    """

    task: str
    model: str
    method: str
    depth: int
    seed: int
    metric: str
    accuracy: float
    epochs: int
    parameters: int
    seconds: float
    threads: int


@dataclass(frozen=True)
class Pictured:
    """One row of ``scripts/score_pictures.py``: an autoencoder of pictures, fine-tuned.

    Attributes:
        model: ``pretrained`` or ``random``.
        accuracy: On the test pictures, after the last epoch.
        seconds: Of training.
    """

    model: str
    depth: int
    seed: int
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Choice:
    """One row: how often a depth was chosen.

    Attributes:
        tiles: Tiles that were drawn, in whole groups.
        times: Of ``shuffles`` draws of so many tiles, how many chose this depth.
        score: Mean largest score of these draws; above 0 is the premise of ``simpler``.
    """

    task: str
    model: str
    pooling: str
    criterion: str
    tiles: int
    depth: int
    times: int
    shuffles: int
    score: float


@dataclass(frozen=True)
class LayerCurve:
    """One row: a statistic of one layer, over all training tiles.

    Attributes:
        statistic: Its name in a plan.
        layer: 0 is the input of the first block.
        value: Its mean over groups of tiles.
    """

    task: str
    model: str
    statistic: str
    layer: int
    value: float


@dataclass(frozen=True)
class Priced:
    """One row: an arm with one seed.

    Attributes:
        trained: Parameters that were trained.
        seconds: Of training.
        inference_ms: Of one picture in a batch of 16, without gradients: the median of 15 rounds.
        threads: Threads that torch computed with.
    """

    arm: str
    seed: int
    metric: str
    accuracy: float
    parameters: int
    trained: int
    seconds: float
    inference_ms: float
    threads: int


@dataclass(frozen=True)
class Precision:
    """One row: a choice in both precisions.

    Attributes:
        tiles: Tiles that were read, in whole groups.
        criterion: Who chose.
        depth: Chosen in 32 bits.
        depth_bf16: Chosen in bf16-mixed.
        difference: Largest between an entry of one similarity matrix and the same entry of the
            other.
    """

    task: str
    model: str
    tiles: int
    criterion: str
    depth: int
    depth_bf16: int
    difference: float


@dataclass(frozen=True)
class Cheaper:
    """One row: how often tiles of half their sides choose what the tiles themselves do.

    Attributes:
        tiles: Tiles of a draw.
        depth: What all tiles choose as they are.
        draws: How many draws.
        agree: Of these, how many chose that depth with the tiles as they are.
        halved: What all tiles choose halved.
        halved_agree: Draws of halved tiles that chose ``depth``.
        same: Draws that chose the same halved and not.
    """

    task: str
    model: str
    criterion: str
    tiles: int
    depth: int
    draws: int
    agree: int
    halved: int
    halved_agree: int
    same: int


@dataclass(frozen=True)
class Signs:
    """One row: what tiles alone show of a backbone.

    Attributes:
        fed: How the tiles were fed, a name of ``feeding.py``.
        tiles: Tiles that were read, in whole groups.
        score: Largest score of ``simpler``; above 0 is its premise.
        first_to_last: CKA between the patch embedding and the last block's output.
        dimension_first: Effective dimension of the patch embedding (:func:`effective_dimension`).
        dimension_most: The largest of any layer.
        dimension_last: That of the last block's output.
        contrast: Largest spatial contrast after a block over that before the first.
        votes: Standard deviation, over all criteria, of the share of blocks that each would keep.
    """

    task: str
    model: str
    fed: str
    tiles: int
    score: float
    first_to_last: float
    dimension_first: float
    dimension_most: float
    dimension_last: float
    contrast: float
    votes: float


@dataclass(frozen=True)
class Probed:
    """One row: what the frozen features of a depth give on the validation tiles.

    Attributes:
        depth: 0 is the input of the first block.
        metric: What the score is: the metric of the task, or that of the probe.
        error: Standard error of its difference to the best depth's; None where the metric of the
            task is not the probe's.
    """

    task: str
    model: str
    depth: int
    metric: str
    score: float
    error: Perhaps


@dataclass(frozen=True)
class Judged:
    """One row: what a way of choosing keeps, over draws of tiles.

    Attributes:
        tiles: Tiles of a draw; 0 for baselines that look at none.
        depth: Mean of the depths chosen, between ``lowest`` and ``highest``.
        retained: Mean of what they keep of the full depth's accuracy; depths between those of the
            grid are interpolated.
        worst: The least of it.
        ends: Share of the draws that choose depth 1, or the last but one or more.
        agree: Share of the draws that choose the most frequent depth; None without draws.
        beyond: Mean of the blocks kept beyond the least depth that keeps 94 %; below 0 are too few.
    """

    task: str
    model: str
    pooling: str
    criterion: str
    tiles: int
    depth: float
    lowest: int
    highest: int
    retained: float
    worst: float
    ends: float
    agree: Perhaps
    beyond: float


@dataclass(frozen=True)
class Ranked:
    """One row: the frozen probe beside fine-tuning.

    Attributes:
        depths: How many are compared.
        correlation: Spearman's, of probe score and accuracy after fine-tuning over the depths.
    """

    task: str
    model: str
    depths: int
    correlation: float


@dataclass(frozen=True)
class Labelled:
    """One row: a rule by which the frozen probe chooses a depth.

    Attributes:
        rule: Its name.
        depth: What it chooses.
        total: Blocks of the full depth.
        retained: What the depth keeps after fine-tuning.
    """

    task: str
    model: str
    rule: str
    depth: int
    total: int
    retained: float


@dataclass(frozen=True)
class Retained:
    """One row: what a depth keeps of the full depth's accuracy after fine-tuning.

    Attributes:
        seeds: How many there are.
        accuracy: Their mean.
        spread: The largest minus the smallest of them.
        retained: The mean over that of the full depth.
    """

    task: str
    model: str
    depth: int
    seeds: int
    accuracy: float
    spread: float
    retained: float
