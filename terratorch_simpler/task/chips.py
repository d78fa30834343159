"""How GeoTIFF files are read in the place of a config's own tiles, or for a backbone alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from terratorch_simpler.selection.settings import Settings
from terratorch_simpler.tiles import DEFAULT_SAMPLES, Mask

if TYPE_CHECKING:
    from terratorch_simpler.tiles.geotiff import GeoTiffTiles

Files = str | Path | Iterable[str | Path]
"""A folder, a file, a glob, a text file that lists them, or several of them."""


@dataclass(frozen=True)
class Chips:
    """How chips are read from GeoTIFF files.

    Attributes:
        dataset_bands: Bands that the files hold, in order; None for what the files or the config
            say.
        means: Mean of each band, to normalise with; None for those of the config, or else of the
            pre-trained weights.
        stds: Standard deviation of each band, likewise.
        size: Height and width of a chip in pixels.
        mask: Leave out cloud, shadow and snow as the files' own quality layer says: scl
            (Sentinel-2), fmask (HLS), qa_pixel (Landsat).
        strict: Make whatever would be left out an error.
        batch_size: Chips in a batch; changes no result.
        num_workers: Processes that read.
    """

    dataset_bands: Sequence[str] | None = None
    means: Sequence[float] | None = None
    stds: Sequence[float] | None = None
    size: int = 224
    mask: Mask | None = None
    strict: bool = False
    batch_size: int = 8
    num_workers: int = 0

    def of(self, files: Files, bands: Sequence[str], settings: Settings) -> GeoTiffTiles:
        """Chips of files, with the bands that a backbone reads.

        Raises:
            FileNotFoundError: As :class:`~terratorch_simpler.tiles.geotiff.GeoTiffTiles`.
            ValueError: Likewise.
        """
        from terratorch_simpler.tiles.geotiff import GeoTiffTiles

        return GeoTiffTiles(
            files,
            bands,
            self.dataset_bands,
            self.size,
            settings.samples if settings.samples is not None else DEFAULT_SAMPLES,
            settings.seed if settings.seed is not None else 0,
            means=self.means,
            stds=self.stds,
            mask=self.mask,
            strict=self.strict,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
        )
