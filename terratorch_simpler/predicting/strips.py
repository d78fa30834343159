"""Strips: the outputs of windows blended, held only as long as a later window reaches them."""

from __future__ import annotations

import numpy as np

from terratorch_simpler.predicting.windows import Placed, Tiling
from terratorch_simpler.tiles.grid import Image


class Strips:
    """Blends outputs of the windows of one row after the other.

    Strip i is what no window after row i of the windows reaches. It holds as many rows of pixels as
    a window has, whatever the scene is.

    Args:
        tiling: The windows.
        channels: Values at a pixel.
        first: Row of windows to begin with.
    """

    def __init__(self, tiling: Tiling, channels: int, first: int = 0) -> None:
        self._rows = tiling.rows
        self._next = first
        held = min(tiling.rows.crop, tiling.rows.size)
        self._top = self._start(first)
        self._sums = np.zeros((channels, held, tiling.columns.size), np.float32)
        self._weights = np.zeros((held, tiling.columns.size), np.float32)

    def _start(self, index: int) -> int:
        return self._rows.starts[index]

    def add(self, placed: Placed, output: Image) -> None:
        """Add the output of a window of the present row.

        Args:
            placed: Where it lies.
            output: Its values: [channels, crop, crop].
        """
        rows, columns = placed.outside
        here = slice(rows.start - self._top, rows.stop - self._top), columns
        self._sums[:, *here] += output[:, *placed.inside] * placed.weights
        self._weights[here] += placed.weights

    def finish(self) -> Image:
        """End a row of windows.

        Returns:
            Its strip, a view that the next :meth:`add` may change: [channels, rows, width]. 0 where
            no window was added.
        """
        until = self._rows.done(self._next)
        count = until - self._top
        weights = self._weights[:count]
        weights[weights == 0] = 1
        strip = np.empty((len(self._sums), *weights.shape), np.float32)
        for values, sums in zip(strip, self._sums, strict=True):
            np.divide(sums[:count], weights, out=values)
        for kept in (*self._sums, self._weights):
            kept[: len(kept) - count] = kept[count:].copy()
            kept[len(kept) - count :] = 0
        self._top = until
        self._next += 1
        return strip
