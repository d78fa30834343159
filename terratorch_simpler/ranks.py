"""Which of several processes this one is."""

from __future__ import annotations


def rank() -> int:
    """Number of this process, as Lightning learns it from the launcher; 0 where it is alone."""
    from lightning.pytorch.utilities import rank_zero_only

    number: int = getattr(rank_zero_only, "rank", 0)
    return number
