"""How to select: what a user may set, checked."""

from __future__ import annotations

from dataclasses import dataclass

from terratorch_simpler.selection.decision import check_criterion
from terratorch_simpler.selection.groups import TILES_PER_GROUP
from terratorch_simpler.tiles import MIN_TILES, Pooling


@dataclass(frozen=True)
class Settings:
    """How to select.

    Attributes:
        criterion: A criterion, or a baseline together with ``depth``.
        depth: How many blocks a baseline keeps.
        pooling: ``tokens`` or ``mean``.
        tokens: Patch tokens drawn of each tile.
        samples: Most tiles to use; None for what the tiles say, or 512.
        seed: Seed of the choice of tiles and tokens; None for what the tiles say, or 0.
        early_stop: Stop sampling once the choice is settled.
        accelerator: Lightning's ``accelerator``.
        devices: Lightning's ``devices``; more than one run under its DDP strategy.
        num_nodes: Lightning's ``num_nodes``.
        precision: Lightning's ``precision``; ``auto`` is ``bf16-mixed`` on CUDA devices that have
            it, else ``32-true``.
        progress: Show a progress bar.
    """

    criterion: str = "simpler"
    depth: int | None = None
    pooling: Pooling = "tokens"
    tokens: int = 16
    samples: int | None = None
    seed: int | None = None
    early_stop: bool = True
    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = 1
    precision: str = "auto"
    progress: bool = True

    def __post_init__(self) -> None:
        check_criterion(self.criterion, self.depth)
        if self.pooling not in TILES_PER_GROUP:
            raise ValueError(f"pooling must be tokens or mean, got {self.pooling!r}")
        if self.tokens < 1:
            raise ValueError(f"tokens must be at least 1, got {self.tokens}")
        if self.samples is not None and self.samples < MIN_TILES:
            raise ValueError(f"samples must be at least {MIN_TILES}, got {self.samples}")
        for what, value in (("devices", self.devices), ("num_nodes", self.num_nodes)):
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{what} must be at least 1, got {value}")
