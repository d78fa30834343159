"""Which bands of a scene go into the model, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from terratorch_simpler.bands import check_bands
from terratorch_simpler.messages import one_line
from terratorch_simpler.results.deployment import Deployment
from terratorch_simpler.tiles.grid import open_raster
from terratorch_simpler.tiles.products import SceneFiles
from terratorch_simpler.tiles.scenes import Scene, UnusableScene


def open_scene(
    files: SceneFiles, deployment: Deployment, dataset_bands: Sequence[str] | None = None
) -> Scene:
    """A scene with the bands that a model reads, in its order.

    They are found by band descriptions or the band codes of a known product, else as
    ``dataset_bands`` says, else in the order of the file, which then must hold just these. A model
    of several inputs reads a file that stacks the bands of all of them. One of several time steps
    reads a file that holds its bands time by time, as TerraTorch's datasets do; descriptions are
    not looked at then.

    Args:
        files: The files of the scene.
        deployment: What the model expects.
        dataset_bands: What the scene holds, in order; of one time step where there are several.

    Raises:
        ValueError: If the scene does not hold the bands, or cannot be read.
    """
    steps = _steps(deployment)
    bands = _names(deployment)
    known = all(entry.bands is not None for entry in deployment.inputs)
    if known:
        check_bands(bands, dataset_bands)
    elif dataset_bands is not None:
        raise ValueError(
            "the export does not name its bands, so that dataset_bands cannot say which to read: "
            "export the model from a config that names them, or leave it out"
        )
    held = list(dataset_bands or bands)
    if not known or steps > 1:
        count = _count(files)
        if count != steps * len(held):
            times = f" at {steps} times" if steps > 1 else ""
            raise ValueError(
                f"{files.name} holds {count} bands, and the model reads {len(bands)} "
                f"({', '.join(bands)}){times}: stack {steps * len(held)} in one file"
                + (", time by time" if steps > 1 else ", in this order")
            )
        asked = [f"{band} at {step}" for step in range(steps) for band in bands]
        there = [f"{band} at {step}" for step in range(steps) for band in held]
    else:
        asked, there = bands, held if dataset_bands is not None else []
    try:
        height = deployment.inputs[0].height
        return Scene(files.name, files, asked, there or None, height)
    except UnusableScene as error:
        raise ValueError(f"{files.name} is a scene {error}") from error
    except ValueError as error:
        if len(deployment.inputs) == 1:
            raise
        inputs = "; ".join(
            f"{entry.name}: {', '.join(entry.bands or ())}" for entry in deployment.inputs
        )
        raise ValueError(
            f"{error}. The model has {len(deployment.inputs)} inputs ({inputs}): stack the bands "
            "of all of them in one file on one grid, and name them with dataset_bands"
        ) from error


def _steps(deployment: Deployment) -> int:
    frames = {entry.frames for entry in deployment.inputs}
    if len(frames) > 1:
        raise ValueError(
            f"the model's inputs have different time steps ({frames}): run it with onnxruntime "
            "itself, tile by tile"
        )
    return frames.pop() or 1


def _names(deployment: Deployment) -> list[str]:
    """One name a band of all inputs, with the input's where two share a band."""
    named = [
        (entry.name, band)
        for entry in deployment.inputs
        for band in entry.bands or [f"band {number}" for number in range(1, entry.channels + 1)]
    ]
    bands = [band for _, band in named]
    if len(set(bands)) == len(bands):
        return bands
    return [f"{name}.{band}" for name, band in named]


def _count(files: SceneFiles) -> int:
    if files.labels is not None:
        return len(files.labels)
    try:
        with open_raster(files.files[0]) as source:
            return sum(role != ColorInterp.alpha for role in source.colorinterp)
    except RasterioError as error:
        raise ValueError(
            f"{files.name} is not a raster that GDAL can read ({one_line(error)}): remove or "
            "replace it"
        ) from error
