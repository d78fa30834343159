"""Matrix products in the precision of their tensors, whatever the process was set to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Within it, float32 matrix products are computed in float32.

    Importing TerraTorch sets ``torch.set_float32_matmul_precision("medium")`` for the whole process
    (its Clay backbone does). That is TF32 on Nvidia's GPUs and bfloat16 on CPUs with AMX, of 10 and
    7 bits.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
