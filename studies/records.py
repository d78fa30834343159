"""The rows of every table of results."""

from __future__ import annotations

from dataclasses import dataclass


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
class Signs:
    """One row: what tiles alone show of a backbone.

    Attributes:
        tiles: Tiles that were read, in whole groups.
        score: Largest score of ``simpler``; above 0 is its premise.
        first_to_last: CKA between the patch embedding and the last block's output.
        dimension_first: Effective dimension of the patch embedding (:func:`effective_dimension`).
        dimension_most: The largest of any layer.
        dimension_last: That of the last block's output.
    """

    task: str
    model: str
    tiles: int
    score: float
    first_to_last: float
    dimension_first: float
    dimension_most: float
    dimension_last: float


@dataclass(frozen=True)
class Probed:
    """One row: what the frozen features of a depth give on the validation tiles.

    Attributes:
        depth: 0 is the input of the first block.
        metric: What the score is: the metric of the task.
    """

    task: str
    model: str
    depth: int
    metric: str
    score: float


@dataclass(frozen=True)
class Judged:
    """One row: what a way of choosing keeps, over draws of tiles.

    Attributes:
        tiles: Tiles of a draw; 0 for baselines that look at none.
        depth: Mean of the depths chosen, between ``lowest`` and ``highest``.
        retained: Mean of what they keep of the full depth's accuracy; depths between those of the
            grid are interpolated.
        worst: The least of it.
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
    beyond: float


@dataclass(frozen=True)
class Ranked:
    """One row: the frozen probe beside fine-tuning.

    Attributes:
        depths: How many are compared.
        correlation: Spearman's, of probe score and accuracy after fine-tuning over the depths.
        reached: The least depth at which the probe gives 94 % of what it gives at full depth.
        retained: What that depth keeps after fine-tuning.
    """

    task: str
    model: str
    depths: int
    correlation: float
    reached: int
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
