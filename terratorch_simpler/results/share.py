"""What a cut can save of a task's whole model, beside which the backbone alone says too much."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class BlockShare:
    """Floating-point operations of a task's model for one tile.

    Attributes:
        total: Of the whole model at full depth.
        blocks: Those in each block of its backbone, in order.
    """

    total: int
    blocks: tuple[int, ...]

    def left(self, kept: Collection[int]) -> int:
        """Those of the model with some blocks only.

        Args:
            kept: 0-based indices of the kept blocks.
        """
        return self.total - sum(
            flops for block, flops in enumerate(self.blocks) if block not in kept
        )

    def sentence(self, kept: list[int], of: str = "the whole model") -> str:
        """What the blocks' share allows, and what a choice of them makes of it.

        Args:
            kept: 0-based indices of the kept blocks.
            of: What was counted.
        """
        spent, left = sum(self.blocks), self.left(kept)
        return (
            f"Blocks are {spent / self.total:.0%} of the FLOPs of {of}: at most "
            f"{self.total / (self.total - spent):.1f}x fewer, {len(kept)} of {len(self.blocks)} "
            f"blocks make it {self.total / left:.1f}x fewer."
        )
