"""What tells weights apart."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


def fingerprint(blocks: nn.Module) -> str:
    """SHA-256 over the names and shapes of some blocks' weights, and sums of their bits."""
    digest = hashlib.sha256()
    for name, weight in blocks.named_parameters():
        digest.update(f"{name}{list(weight.shape)}".encode())
        for sums in _sums_of_bits(weight.detach()):
            digest.update(sums.cpu().numpy().data)
    return digest.hexdigest()


def _sums_of_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the rows and columns of a weight's bits, taken as integers modulo 2^64.

    They are exact, so that they do not depend on device, threads or order, and are taken where the
    weight is: only they have to be fetched and hashed.
    """
    data = weight.contiguous().reshape(-1).view(torch.uint8)
    if len(data) % 8:
        data = torch.nn.functional.pad(data, (0, -len(data) % 8))
    bits = data.view(torch.int64)
    rows = weight.shape[0] if weight.ndim > 1 and len(bits) % weight.shape[0] == 0 else 1
    table = bits.view(rows, -1)
    return table.sum(0), table.sum(1)
