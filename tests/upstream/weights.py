"""Random weights at the price of a copy: drawing those of 300M takes longer than a pass."""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 1 << 16
"""Numbers drawn for one tensor; a larger one repeats them."""


def draw_less() -> None:
    """Make ``Tensor.uniform_``, from which builders draw, repeat itself from now on."""
    draw = Tensor.uniform_

    @torch.no_grad()
    def uniform_(
        tensor: Tensor, *values: float, generator: torch.Generator | None = None
    ) -> Tensor:
        flat = tensor.view(-1) if tensor.is_contiguous() else tensor
        if tensor.is_meta or flat.ndim != 1 or len(flat) <= MOST:
            return draw(tensor, *values, generator=generator)
        draw(flat[:MOST], *values, generator=generator)
        whole = len(flat) // MOST * MOST
        flat[MOST:whole].view(-1, MOST).copy_(flat[:MOST].expand(whole // MOST - 1, MOST))
        flat[whole:] = flat[: len(flat) - whole]
        return tensor

    Tensor.uniform_ = uniform_  # type: ignore[assignment,method-assign]
