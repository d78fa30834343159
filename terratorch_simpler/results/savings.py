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
    """

    parameters: Count
    flops: Count
    seconds: Seconds
    memory: Count | None = None


@dataclass(frozen=True)
class Savings:
    """Costs of the full and the pruned backbone."""

    full: Cost
    pruned: Cost
