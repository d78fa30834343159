"""Lay out an archive of GeoTIFF chips, as large as wanted, from a few hundred different images.

    python scripts/make_archive.py archive --files 100000 --list

Each image is written once and the other files are hard links to it, so that an archive of 100,000
files takes seconds to make and 60 MB of disk. Equal arguments give equal files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

BANDS = ("BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2")
CORNER = (400_000.0, 5_800_000.0)


def landscape(seed: int, size: int) -> NDArray[np.uint16]:
    """Reflectance x 10000 of shape [6, size, size]: waves, fields and a little noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    angle, length = random.uniform(0, np.pi), random.uniform(15, 60)
    waves = np.sin(2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / length)
    fields = random.normal(0, 400, (len(BANDS), size // 16 + 1, size // 16 + 1))
    mean, swing = random.uniform([[500], [50]], [[3000], [300]], (2, len(BANDS)))[:, :, None, None]
    image = mean + swing * waves + fields[:, rows // 16, columns // 16]
    image += random.normal(0, 40, image.shape)
    result: NDArray[np.uint16] = np.clip(image, 1, 10_000).astype(np.uint16)
    return result


def make_archive(
    output: Path, files: int = 100_000, distinct: int = 300, folders: int = 100, size: int = 128
) -> list[str]:
    """Write the archive: ``000/chip_000000.tif``, ...

    Args:
        output: Folder to make.
        files: Files in all.
        distinct: Different images among them.
        folders: Subfolders, with as many files each.
        size: Height and width of a file in pixels.

    Returns:
        Path of each file below ``output``.

    Raises:
        ValueError: If a number is below 1.
        FileExistsError: If there is something at ``output``.
    """
    for what, value in locals().items():
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{what} must be at least 1, got {value}")
    output.mkdir(parents=True)
    names = [f"{i * folders // files:03d}/chip_{i:06d}.tif" for i in range(files)]
    for folder in {name.partition("/")[0] for name in names}:
        (output / folder).mkdir()
    for i, name in enumerate(names):
        if i >= distinct:
            (output / name).hardlink_to(output / names[i % distinct])
            continue
        image = landscape(i, size)
        place = from_origin(CORNER[0] + i * size * 10, CORNER[1], 10, 10)
        profile = {"count": len(image), "height": size, "width": size, "dtype": image.dtype}
        with rasterio.open(
            output / name, "w", driver="GTiff", crs="EPSG:32633", transform=place, **profile
        ) as target:
            target.write(image)
    return names


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("output", type=Path, metavar="OUT", help="folder to make")
    result.add_argument("--files", type=int, default=100_000, help="files in all")
    result.add_argument("--distinct", type=int, default=300, help="different images among them")
    result.add_argument("--folders", type=int, default=100, help="subfolders")
    result.add_argument("--size", type=int, default=128, help="side of a file in pixels")
    result.add_argument("--list", action="store_true", help="write OUT/files.txt as well")
    return result


def main() -> None:
    """Run the command line."""
    options = vars(parser().parse_args())
    listing = options.pop("list")
    try:
        names = make_archive(**options)
        if listing:
            (options["output"] / "files.txt").write_text("\n".join(names) + "\n")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
