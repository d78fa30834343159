from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from terratorch_simpler.messages import Reporter
from terratorch_simpler.predicting.job import Job, MapSettings, plan_map
from terratorch_simpler.predicting.partial import folder_of
from terratorch_simpler.predicting.predict import Made, PredictWarning, make_map
from terratorch_simpler.predicting.session import OnnxModel
from terratorch_simpler.results.deployment import METADATA_KEY
from terratorch_simpler.tiles.products import find_scenes
from tests.predicting.models import deployment, weights, write_model
from tests.rasters import landscape, write_raster

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning", "ignore:.*trace might not generalize"
)

RGB = ["BLUE", "GREEN", "RED"]
MEANS, STDS = (1800.0, 1900.0, 2000.0), (400.0, 500.0, 600.0)


class Nonlinear(nn.Module):
    """Sees 5 pixels far, and does not let a mean through."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, channels, 7, padding=3)
        )

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.layers(image)
        # TerraTorch's regression has no axis of channels.
        return output if output.shape[1] > 1 else output.squeeze(1)


def exported(folder: Path, size: int, channels: int) -> tuple[OnnxModel, nn.Module]:
    """A model, and the same one exported by torch."""
    import onnx

    module = Nonlinear(channels).eval()
    record = deployment(
        "regression" if channels == 1 else "segmentation",
        bands=RGB,
        classes=channels,
        size=size,
        means=MEANS,
        stds=STDS,
        no_data_replace=0,
    )
    path = folder / f"{size}_{channels}.onnx"
    torch.onnx.export(
        module,
        (torch.zeros(2, 3, size, size),),
        str(path),
        input_names=["image"],
        output_names=["output"],
        dynamic_axes={"image": {0: "batch"}},
        dynamo=False,
    )
    graph = onnx.load(str(path))
    onnx.helper.set_model_props(graph, {METADATA_KEY: record.to_json()})
    onnx.save(graph, str(path))
    return OnnxModel(path, num_threads=1), module


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxModel, nn.Module]:
    return exported(tmp_path_factory.mktemp("exports"), 64, 1)


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxModel, nn.Module]:
    return exported(tmp_path_factory.mktemp("exports"), 224, 5)


def mapped(
    model: OnnxModel,
    image: NDArray[Any],
    folder: Path,
    settings: MapSettings | None = None,
    **how: Any,
) -> NDArray[Any]:
    """The map of an image."""
    scene = write_raster(folder / "scene.tif", image, **{"dtype": "float32"} | how)
    make(model, scene, folder / "map.tif", settings)
    with rasterio.open(folder / "map.tif") as made:
        pixels: NDArray[Any] = made.read()
    return pixels


def planned(model: OnnxModel, scene: Path, path: Path, settings: MapSettings | None = None) -> Job:
    (files,) = find_scenes([str(scene)]).scenes
    return plan_map(model, files, path, settings or MapSettings())


def make(
    model: OnnxModel,
    scene: Path,
    path: Path,
    settings: MapSettings | None = None,
    **how: Any,
) -> Made:
    return make_map(model, planned(model, scene, path, settings), **how)


def normalised(image: NDArray[np.float32]) -> Tensor:
    """[1, bands, height, width]."""
    means, stds = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (MEANS, STDS))
    return torch.from_numpy((image - means) / stds)[None]


def by_terratorch(
    module: Callable[[Tensor], Tensor], image: NDArray[np.float32], **how: Any
) -> NDArray[np.float32]:
    """What TerraTorch's tiled inference gives: [channels, height, width]."""
    from terratorch.tasks.tiled_inference import tiled_inference

    with torch.no_grad():
        output: Tensor = tiled_inference(module, normalised(image), **how)
    return output.reshape(-1, *image.shape[1:]).numpy()


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize(("stride", "delta"), [(None, None), (40, 4), (64, 0), (20, 8)])
@pytest.mark.parametrize("size", [(64, 64), (67, 130), (119, 174), (120, 175), (201, 90)])
def test_values_are_those_of_terratorchs_tiled_inference(
    size: tuple[int, int],
    stride: int | None,
    delta: int | None,
    padding: bool,
    regression: tuple[OnnxModel, nn.Module],
    tmp_path: Path,
) -> None:
    model, module = regression
    image = landscape(3, *size)
    settings = MapSettings(stride=stride, delta=delta, padding=padding, batch_size=3)
    found = mapped(model, image, tmp_path, settings)
    # TerraTorch fails on a border of 0 that is padded; there is nothing to pad.
    pad = "reflect" if padding and delta != 0 else False
    how = {"stride": stride or 55, "delta": 2 if delta is None else delta, "padding": pad}
    expected = by_terratorch(module, image, crop=64, **how)
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("size", [(224, 224), pytest.param((500, 700), marks=pytest.mark.slow)])
def test_logits_are_those_of_terratorchs_tiled_inference_with_its_defaults(
    size: tuple[int, int],
    padding: bool,
    segmentation: tuple[OnnxModel, nn.Module],
    tmp_path: Path,
) -> None:
    model, module = segmentation
    image = landscape(3, *size)
    logits = by_terratorch(module, image, padding="reflect" if padding else False)
    settings = MapSettings(padding=padding, probabilities=True)
    found = mapped(model, image, tmp_path / "probabilities", settings)
    expected = torch.from_numpy(logits).softmax(0).numpy()
    assert np.abs(found - expected).max() < 1e-5
    # Up to what they have in common, which a softmax does not see.
    shift = np.log(found) - logits
    assert np.abs(shift - shift.mean(axis=0)).max() < 1e-4
    classes = mapped(model, image, tmp_path / "classes", MapSettings(padding=padding))[0]
    first, second = np.sort(logits, axis=0)[[-1, -2]]
    sure = first - second > 1e-4
    assert sure.mean() > 0.99
    assert (classes == logits.argmax(axis=0))[sure].all()


@pytest.mark.parametrize("size", [(40, 50), (64, 20), (1, 1), (2, 64)])
def test_a_scene_within_a_window_is_reflected_to_one(
    size: tuple[int, int], regression: tuple[OnnxModel, nn.Module], tmp_path: Path
) -> None:
    model, module = regression
    image = landscape(3, *size)
    rest = [(0, 0), (0, 64 - size[0]), (0, 64 - size[1])]
    with torch.no_grad():
        whole = module(normalised(np.pad(image, rest, mode="reflect"))).numpy()
    found = mapped(model, image, tmp_path)
    assert np.abs(found[0] - whole[0, : size[0], : size[1]]).max() < 1e-5


@pytest.mark.parametrize("size", [(20, 25), (32, 32), (50, 90)])
def test_a_model_of_any_size_reads_such_a_scene_as_terratorch_does(
    size: tuple[int, int], tmp_path: Path
) -> None:
    record = deployment(bands=RGB, dynamic_size=True, means=MEANS, stds=STDS)
    path = write_model(tmp_path / "m.onnx", record, kernel=3)
    kernels = torch.from_numpy(weights(3, 3, 3))
    image = landscape(3, *size)
    expected = by_terratorch(
        lambda pixels: torch.nn.functional.conv2d(pixels, kernels, padding=1),
        image,
        **{"crop": 32, "stride": 27, "delta": 1},
    )
    found = mapped(OnnxModel(path), image, tmp_path, MapSettings(probabilities=True))
    assert np.abs(found - torch.from_numpy(expected).softmax(0).numpy()).max() < 1e-5


def test_a_scene_that_is_narrow_in_one_direction_is_mapped(
    regression: tuple[OnnxModel, nn.Module], tmp_path: Path
) -> None:
    """TerraTorch fails on it."""
    model, module = regression
    image = landscape(3, 30, 150)
    found = mapped(model, image, tmp_path)
    padded = np.pad(image, [(0, 0), (9, 9), (9, 9)], mode="reflect")
    with torch.no_grad():
        whole = module(normalised(padded)).numpy()[0, 9:-9, 9:-9]
    # Two pixels of a window's border do not count; its model sees five.
    assert np.abs(found[0] - whole)[5:-5, 5:-5].mean() < 0.02


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return OnnxModel(write_model(tmp_path / "m.onnx", deployment(bands=RGB), kernel=3))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "scene.tif", landscape(3, 150, 70))


def test_a_run_that_fails_before_it_has_a_strip_leaves_nothing(
    model: OnnxModel, scene: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.tif"
    # The header is whole, the pixels are not.
    damaged.write_bytes(scene.read_bytes()[:2000])
    with pytest.raises(ValueError, match="looks truncated or damaged"):
        make(model, damaged, tmp_path / "map.tif")
    with pytest.raises(KeyboardInterrupt):
        make(model, scene, tmp_path / "map.tif", progress=Stop(1))
    assert not folder_of(tmp_path / "map.tif").exists()


class Listener(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


class Stop:
    """Stops a run as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, done: int, total: int) -> None:
        if done >= self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stride", [None, 9])
@pytest.mark.parametrize("after", [1, 7, 10, 17])
def test_a_run_that_was_stopped_goes_on_to_the_same_map(
    after: int, stride: int | None, model: OnnxModel, scene: Path, tmp_path: Path
) -> None:
    settings = MapSettings(stride=stride, probabilities=True)
    make(model, scene, tmp_path / "whole.tif", settings)
    path = tmp_path / "map.tif"
    with pytest.raises(KeyboardInterrupt):
        make(model, scene, path, settings, progress=Stop(after))
    assert not path.exists()
    kept = len(list(folder_of(path).glob("strip_*.npy")))
    listener = Listener()
    made = make(model, scene, path, settings, reporter=listener)
    assert (made.done_before > 0) == (kept > 0)
    assert len(listener.said) == (kept > 0)
    assert path.read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert not folder_of(path).exists()


def stopped(model: OnnxModel, scene: Path, path: Path, settings: MapSettings) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(model, scene, path, settings, progress=Stop(9))
    assert list(folder_of(path).glob("strip_*.npy"))


@pytest.mark.parametrize("other", ["model", "scene", "settings"])
def test_what_was_kept_of_something_else_is_discarded(
    other: str, model: OnnxModel, scene: Path, tmp_path: Path
) -> None:
    path, settings = tmp_path / "map.tif", MapSettings()
    stopped(model, scene, path, settings)
    if other == "model":
        record = deployment(bands=RGB)
        model = OnnxModel(write_model(tmp_path / "other.onnx", record, kernel=3, seed=1))
    elif other == "scene":
        write_raster(scene, landscape(3, 150, 70, seed=1))
    else:
        settings = MapSettings(stride=20)
    listener = Listener()
    assert make(model, scene, path, settings, reporter=listener).done_before == 0
    assert listener.said == [
        f"Began {path} anew: what was kept of it is of another model, scene or other settings"
    ]
    make(model, scene, tmp_path / "whole.tif", settings)
    assert path.read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_another_batch_size_goes_on(model: OnnxModel, scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    stopped(model, scene, path, MapSettings())
    assert make(model, scene, path, batch_size=2).done_before > 0


def test_a_disk_that_fills_is_said_and_the_run_goes_on(
    model: OnnxModel, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.tif"
    job = planned(model, scene, path)
    calls = 0
    real = os.fsync

    def fills(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills)
        with pytest.raises(OSError, match=r"No space left on device\); what is finished is kept"):
            make_map(model, job)
    assert not path.exists()
    assert make_map(model, job).done_before > 0
    assert path.exists()


def test_progress_goes_to_the_end(model: OnnxModel, scene: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make(model, scene, tmp_path / "map.tif", progress=lambda *now: seen.append(now))
    done = [number for number, _ in seen]
    assert done == sorted(done)
    assert {total for _, total in seen} == {done[-1]}


def test_a_batch_changes_nothing(model: OnnxModel, scene: Path, tmp_path: Path) -> None:
    settings = MapSettings(probabilities=True)
    maps = []
    for size in (1, 3, 50):
        path = tmp_path / f"{size}.tif"
        make(model, scene, path, settings, batch_size=size)
        with rasterio.open(path) as made:
            maps.append(made.read())
    assert all(np.abs(other - maps[0]).max() < 1e-6 for other in maps[1:])


def test_pixels_without_data_have_no_class(model: OnnxModel, tmp_path: Path) -> None:
    image = landscape(3, 150, 70)
    image[:, 20:140, 10:60] = 0
    image[0, 5, 5] = 0
    with pytest.warns(PredictWarning, match=r"18,001 values without data, .* the mean of each"):
        found = mapped(model, image, tmp_path, dtype="uint16", nodata=0)
    assert ((found[0] == 255) == (image == 0).all(axis=0)).all()
    assert set(np.unique(found)) <= {0, 1, 2, 255}


def test_a_scene_without_any_data_is_an_empty_map(model: OnnxModel, tmp_path: Path) -> None:
    record = deployment(bands=RGB, no_data_replace=0)
    model = OnnxModel(write_model(tmp_path / "m.onnx", record))
    with pytest.warns(PredictWarning, match=r"has no data in any pixel .* an empty map"):
        found = mapped(model, np.zeros((3, 90, 40)), tmp_path, nodata=0)
    assert (found == 255).all()


def test_a_scene_without_a_place_gives_a_map_without_one(model: OnnxModel, tmp_path: Path) -> None:
    with pytest.warns(PredictWarning, match="has no coordinate system, and its map has none"):
        mapped(model, landscape(3, 40), tmp_path, crs=None)
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "map.tif") as made,
    ):
        assert made.crs is None


def test_the_map_of_a_model_that_was_not_trained_is_warned_of(scene: Path, tmp_path: Path) -> None:
    model = OnnxModel(write_model(tmp_path / "m.onnx", deployment(bands=RGB, trained=False)))
    with pytest.warns(PredictWarning, match="its decoder and head are untrained"):
        make(model, scene, tmp_path / "map.tif")


def test_a_turned_scene_gives_a_turned_map(model: OnnxModel, scene: Path, tmp_path: Path) -> None:
    turned = rasterio.Affine(8, 6, 4e5, 6, -8, 5.8e6)
    with rasterio.open(scene, "r+") as source:
        source.transform = turned
    make(model, scene, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as made:
        assert made.transform == turned


@pytest.mark.filterwarnings("ignore:overflow")
def test_numbers_that_are_not_finite_are_said(tmp_path: Path) -> None:
    record = deployment("regression", bands=RGB, classes=1, means=(3e38,) * 3, stds=(1e-38,) * 3)
    model = OnnxModel(write_model(tmp_path / "m.onnx", record))
    with pytest.warns(PredictWarning, match="no finite number at 1,600 pixels"):
        found = mapped(model, landscape(3, 40), tmp_path)
    assert np.isnan(found).all()
