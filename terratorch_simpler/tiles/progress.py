"""How far a pass over tiles is, named for what is done with them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from terratorch_simpler.tiles.tile_pass import TilePass

if TYPE_CHECKING:
    from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}]"
WITHOUT_TOTAL = "{desc}: {n_fmt} {unit} [{elapsed}]"


def bar(what: str, total: int | None, unit: str, show: bool = True) -> Tqdm:
    """A bar on a terminal or in a notebook, where it is text unless ipywidgets are installed.

    Args:
        what: What is done.
        total: How many there are; None if that is not known.
        unit: Of what, in the plural.
        show: Whether there is something to see.
    """
    # Lightning's own looks for ipywidgets, where the others of rich and tqdm only warn.
    from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

    return Tqdm(
        desc=what,
        total=total,
        unit=unit,
        disable=not show,
        leave=False,
        dynamic_ncols=True,
        file=sys.stdout,
        bar_format=FORMAT if total is not None else WITHOUT_TOTAL,
    )


class TilesBar(Callback):
    """Follows a :class:`~terratorch_simpler.tiles.tile_pass.TilePass`, tile by tile.

    Args:
        what: What is done with the tiles: Selecting, Probing, ...
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._bar: Tqdm | None = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, on the first of several processes."""
        assert isinstance(pl_module, TilePass)
        self._bar = bar(self.what, self._total(pl_module), "tiles", trainer.is_global_zero)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Go on to the tiles seen."""
        self._go_on(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away, once it is where the pass ended: its last batch has no end."""
        self._go_on(pl_module)
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, _: BaseException) -> None:
        """Take the bar away, so that the message stands on a line of its own."""
        self._close()

    def _go_on(self, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TilePass)
        assert self._bar is not None
        self._bar.update(pl_module.seen - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    @staticmethod
    def _total(tile_pass: TilePass) -> int | None:
        """Tiles of the pass: as many as are wanted, or as a datamodule has."""
        there: int | None = getattr(tile_pass.source.loop.get("datamodule"), "count", None)
        known = [number for number in (tile_pass.samples, there) if number is not None]
        return min(known, default=None)
