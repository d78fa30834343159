"""What pruning saves: the cost of the full and of the pruned backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Cost:
    """Cost of one backbone for one tile.

    Attributes:
        parameters: Number of parameters.
        flops: Floating-point operations of a forward pass, as torch's FlopCounterMode counts them.
        seconds: Time of a forward pass on the CPU, the fastest of 7.
        memory: Most bytes of tensors at once in a forward pass, weights included; None if it was
            not measured.
        times: Time of each of the forward passes, in the order in which both backbones took turns;
            None in records that do not say.
    """

    parameters: Count
    flops: Count
    seconds: Seconds
    memory: Count | None = None
    times: Annotated[list[Seconds], Field(min_length=1)] | None = None


@dataclass(frozen=True)
class Savings:
    """Costs of the full and the pruned backbone."""

    full: Cost
    pruned: Cost

    def __post_init__(self) -> None:
        if len(self.full.times or []) != len(self.pruned.times or []):
            raise ValueError("both backbones must have been timed as often")

    @property
    def faster(self) -> tuple[float, float] | None:
        """How many times as fast the pruned one is in the worst and best turn; None if unknown.

        The ratio of the fastest passes lies between them.
        """
        if self.full.times is None or self.pruned.times is None:
            return None
        turns = zip(self.full.times, self.pruned.times, strict=True)
        ratios = [full / pruned for full, pruned in turns]
        return min(ratios), max(ratios)
