"""Float32 in full, whatever the process was set to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Within it, products and convolutions of float32 tensors are computed in float32.

    Importing TerraTorch sets ``torch.set_float32_matmul_precision("medium")`` for the whole process
    (its Clay backbone does), and torch lets cuDNN convolve in TF32. That is TF32 on Nvidia's GPUs
    and bfloat16 on CPUs with AMX: mantissas of 10 and 7 bits in place of 23. Autocast is not
    touched. The setting is the process's, other threads see it too.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
