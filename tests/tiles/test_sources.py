from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from terratorch_simpler.lightning import quiet_lightning
from terratorch_simpler.tiles.batches import unpack
from terratorch_simpler.tiles.datamodule import TaskImages
from terratorch_simpler.tiles.geotiff import GeoTiffTiles
from terratorch_simpler.tiles.sources import Source, open_source
from tests.rasters import BANDS, write_tiles

SAMPLES = Path(str(files("terratorch_simpler"))) / "samples"
TRAIN = SAMPLES / "train"
MEANS, STDS = [1100.0, 1300.0, 1400.0, 2700.0, 2000.0, 1400.0], [2000.0, 2100.0] * 3
MakeDataModule = Callable[..., LightningDataModule]


class Recorder(LightningModule):
    """Stands for a task: keeps the batches that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Any] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        del batch_idx
        self.batches.append(batch)


def validate(**loop: Any) -> list[Any]:
    """The batches that a task sees in ``trainer.validate``."""
    recorder = Recorder()
    with quiet_lightning():
        Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).validate(recorder, verbose=False, **loop)
    return recorder.batches


def by_name(batches: list[Any]) -> dict[str, Tensor]:
    return {
        Path(name).name: image
        for batch in batches
        for name, image in zip(batch["filename"], batch["image"], strict=True)
    }


@pytest.fixture(scope="module")
def make_datamodule() -> MakeDataModule:
    """The datamodule of the embedded sample, whose training images are flipped for certain."""
    from albumentations import Compose, HorizontalFlip, VerticalFlip
    from albumentations.pytorch import ToTensorV2
    from terratorch.datamodules import GenericNonGeoSegmentationDataModule

    config = yaml.safe_load((SAMPLES / "segmentation.yaml").read_text())["data"]["init_args"]
    for key in ("train", "val", "test"):
        for root in (f"{key}_data_root", f"{key}_label_data_root"):
            config[root] = config[root].replace("terratorch_simpler/samples", str(SAMPLES))
    config["train_transform"] = Compose([HorizontalFlip(p=1), VerticalFlip(p=1), ToTensorV2()])

    def make(**changes: Any) -> LightningDataModule:
        module: LightningDataModule = GenericNonGeoSegmentationDataModule(**config | changes)
        return module

    return make


# A datamodule of TerraTorch


def test_training_images_are_what_the_task_sees(make_datamodule: MakeDataModule) -> None:
    source = open_source(make_datamodule(), samples=10, seed=0)
    given = by_name(validate(**source.loop))
    assert len(given) == 10
    # The task's own validation, pointed at the training images.
    roots = {"val_data_root": TRAIN / "images", "val_label_data_root": TRAIN / "landuse"}
    wanted = by_name(validate(datamodule=make_datamodule(**roots)))
    for name, image in given.items():
        torch.testing.assert_close(image, wanted[name], rtol=0, atol=0)


def test_training_images_are_normalised_and_not_augmented(make_datamodule: MakeDataModule) -> None:
    means, stds = (np.array(values)[:, None, None] for values in (MEANS, STDS))
    datamodule = make_datamodule(means=MEANS, stds=STDS)
    given = by_name(validate(datamodule=TaskImages(datamodule, 4, 0)))
    for name, image in given.items():
        with rasterio.open(TRAIN / "images" / name) as source:
            wanted = (source.read() - means) / stds
        np.testing.assert_allclose(image.numpy(), wanted, atol=1e-5)


def test_training_images_are_chosen_by_seed(make_datamodule: MakeDataModule) -> None:
    first, again, other = (
        list(by_name(validate(datamodule=TaskImages(make_datamodule(), 12, seed))))
        for seed in (3, 3, 4)
    )
    assert len(set(first)) == 12
    assert first == again
    assert first != other
    assert first != sorted(first)


def test_all_training_images_where_samples_asks_for_more(make_datamodule: MakeDataModule) -> None:
    given = by_name(validate(datamodule=TaskImages(make_datamodule(), 1000, 0)))
    assert set(given) == {path.name for path in (TRAIN / "images").glob("*.tif")}


@pytest.mark.parametrize("how", [{"batch_size": 3}, {"num_workers": 2}])
def test_batches_and_workers_of_the_datamodule_change_nothing(
    make_datamodule: MakeDataModule, how: dict[str, int]
) -> None:
    wanted, given = (
        by_name(validate(datamodule=TaskImages(make_datamodule(**changes), 7, 0)))
        for changes in ({}, how)
    )
    assert list(given) == list(wanted)
    for name, image in given.items():
        torch.testing.assert_close(image, wanted[name], rtol=0, atol=0)


def test_a_last_batch_is_not_lost(make_datamodule: MakeDataModule) -> None:
    datamodule = make_datamodule(drop_last=True, batch_size=8)
    assert len(by_name(validate(datamodule=TaskImages(datamodule, 13, 0)))) == 13


def test_the_bands_of_a_datamodule_are_known(make_datamodule: MakeDataModule) -> None:
    source = open_source(make_datamodule(), samples=4, seed=0)
    assert source.bands == BANDS
    assert (source.means, source.stds, source.tiles) == (None, None, None)
    assert source.label == "training images of GenericNonGeoSegmentationDataModule"


class Plain(LightningDataModule):
    """A datamodule that is not TerraTorch's, without names, batch transforms or bands."""

    def __init__(self, loader: Any) -> None:
        super().__init__()
        self.loader = loader

    def train_dataloader(self) -> Any:
        return self.loader


def test_any_other_datamodule() -> None:
    images = torch.arange(24.0).reshape(6, 1, 2, 2)
    loader: DataLoader[Any] = DataLoader(TensorDataset(images), batch_size=4, shuffle=True)
    source = open_source(Plain(loader), samples=5, seed=0)
    assert source.bands is None
    batches = validate(**source.loop)
    assert [len(batch[0]) for batch in batches] == [4, 1]
    order = np.random.default_rng(0).permutation(6)[:5]
    torch.testing.assert_close(torch.cat([batch[0] for batch in batches]), images[order])


@pytest.mark.parametrize("loader", [[torch.zeros(2, 1, 4, 4)], {"a": 1}])
def test_a_datamodule_without_one_loader(loader: Any) -> None:
    source = open_source(Plain(loader), samples=5, seed=0)
    message = r"Plain.train_dataloader\(\) gives (list|dict), not one DataLoader of .*: give"
    with pytest.raises(ValueError, match=message):
        validate(**source.loop)


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.zeros(8, 1, 2, 2))


def test_a_datamodule_that_streams() -> None:
    source = open_source(Plain(DataLoader(Stream())), samples=5, seed=0)
    with pytest.raises(ValueError, match="not one DataLoader of images that can be chosen"):
        validate(**source.loop)


class Images(Dataset[Tensor]):
    """Images of which one cannot be read, or has another size."""

    def __init__(self, other: Tensor | None, files: list[str] | None = None) -> None:
        self.other = other
        if files:
            self.image_files = files

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        if index == 5 and self.other is None:
            raise OSError("the disk\nis on fire")
        return torch.zeros(1, 2, 2) if index != 5 or self.other is None else self.other


SIZES = (
    r"a batch of training images cannot be read: the images of a batch are of several sizes "
    r"\(1 x 2 x 2, 1 x 3 x 3\): make them one in the datamodule, .* with --tiles instead"
)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (Images(None), "training image 5 cannot be read: the disk is on fire"),
        (Images(None, [f"{i}.tif" for i in range(8)]), "5.tif cannot be read: the disk is on fire"),
        (Images(torch.zeros(1, 3, 3)), SIZES),
    ],
    ids=["unreadable", "unreadable file", "another size"],
)
def test_a_training_image_that_cannot_be_read(
    images: Dataset[Tensor], message: str, workers: int
) -> None:
    loader: DataLoader[Any] = DataLoader(images, batch_size=8, num_workers=workers)
    source = open_source(Plain(loader), samples=8, seed=0)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        validate(**source.loop)
    assert "\n" not in str(caught.value)


class Boxed(Dataset[dict[str, Any]]):
    """Images to find objects in; every second one has another height."""

    def __init__(self, heights: tuple[int, int]) -> None:
        self.heights = heights

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.full((3, self.heights[index % 2], 4), float(index))
        boxes = {"boxes": torch.ones(index, 4), "labels": torch.ones(index)}
        return {"image": image, "masks": [], **boxes}


def make_detection(heights: tuple[int, int], normalise: bool) -> LightningDataModule:
    """A datamodule whose batches list images, boxes and labels, as that of VHR-10 does."""
    from terratorch.datamodules.m_VHR10 import Normalize, collate_fn_detection
    from torchgeo.datamodules import NonGeoDataModule

    dataset: Any = Boxed
    datamodule: Any = NonGeoDataModule(dataset, batch_size=4, heights=heights)
    datamodule.collate_fn = collate_fn_detection
    means = (0.5, 0.5, 0.5)
    datamodule.aug = (
        Normalize(means, means, max_pixel_value=2) if normalise else lambda batch: batch
    )
    datamodule.setup = lambda stage: setattr(datamodule, "train_dataset", Boxed(heights))
    module: LightningDataModule = datamodule
    return module


@pytest.mark.parametrize("normalise", [True, False])
def test_images_that_a_batch_lists(normalise: bool) -> None:
    source = open_source(make_detection((4, 4), normalise), samples=8, seed=0)
    tiles = [unpack(batch, ()).image for batch in validate(**source.loop)]
    assert [tuple(image.shape) for image in tiles] == [(4, 3, 4, 4)] * 2
    values = torch.cat(tiles).mean(dim=(1, 2, 3)).sort().values
    expected = torch.arange(8.0)
    assert torch.equal(values, (expected / 2 - 0.5) / 0.5 if normalise else expected)


@pytest.mark.parametrize("normalise", [True, False])
def test_listed_images_of_several_sizes(normalise: bool) -> None:
    source = open_source(make_detection((4, 6), normalise), samples=8, seed=0)
    with pytest.raises(ValueError, match=r"several sizes \(3 x 4 x 4, 3 x 6 x 4\).*--tiles"):
        validate(**source.loop)


def test_images_that_cannot_be_normalised(make_datamodule: MakeDataModule) -> None:
    datamodule = make_datamodule(output_bands=BANDS[:5])
    message = r"cannot normalise its images \(means and stds, one a band\?\): .* size of tensor"
    with pytest.raises(ValueError, match=message):
        validate(datamodule=TaskImages(datamodule, 8, 0))


def test_a_datamodule_without_images(make_datamodule: MakeDataModule, tmp_path: Path) -> None:
    datamodule = make_datamodule(train_data_root=tmp_path)
    message = "cannot give its training images, check .*: .*train_dataset has length 0"
    with pytest.raises(ValueError, match=message):
        validate(datamodule=TaskImages(datamodule, 8, 0))


# Loaders and iterables

IMAGES = torch.arange(6 * 2 * 4 * 4, dtype=torch.float32).reshape(6, 2, 4, 4)


def named_batches() -> list[dict[str, Any]]:
    return [
        {"image": IMAGES[i : i + 2], "filename": [f"{i}.tif", f"{i + 1}.tif"]} for i in (0, 2, 4)
    ]


def pairs() -> Iterable[tuple[Tensor, Tensor]]:
    """A generator of (x, y)."""
    for i in (0, 2, 4):
        yield IMAGES[i : i + 2], torch.zeros(2)


@pytest.mark.parametrize(
    "tiles",
    [
        DataLoader(TensorDataset(IMAGES), batch_size=2),
        DataLoader(TensorDataset(IMAGES, torch.zeros(6)), batch_size=2),
        list(IMAGES.chunk(3)),
        tuple(IMAGES.chunk(3)),
        named_batches(),
        pairs(),
        iter(IMAGES.chunk(3)),
    ],
    ids=["loader", "loader of pairs", "list", "tuple", "dicts", "generator of pairs", "iterator"],
)
def test_anything_that_gives_batches(tiles: Any) -> None:
    source = open_source(tiles, samples=100, seed=0)
    assert (source.means, source.bands, source.tiles) == (None, None, None)
    batches = [unpack(batch, ()) for batch in validate(**source.loop)]
    assert [len(batch.image) for batch in batches] == [2, 2, 2]
    torch.testing.assert_close(torch.cat([batch.image for batch in batches]), IMAGES)


def test_geotiff_tiles_come_with_what_they_say(tmp_path: Path) -> None:
    tiles = GeoTiffTiles(
        write_tiles(tmp_path, 4), BANDS, size=64, means=(1.0,) * 6, stds=(2.0,) * 6
    )
    source = open_source(tiles, samples=100, seed=0)
    assert source == Source(
        str(tmp_path), {"dataloaders": tiles}, [1.0] * 6, [2.0] * 6, BANDS, tiles
    )
    batches = validate(**source.loop)
    assert sorted(by_name(batches)) == [f"tile_{i}.tif[0:64,0:64]" for i in range(4)]


@pytest.mark.parametrize(
    ("tiles", "name"),
    [
        ("tiles/", "str"),
        (Path("tiles"), "PosixPath"),
        (IMAGES, "Tensor"),
        ({"image": IMAGES}, "dict"),
        (None, "NoneType"),
        (3, "int"),
    ],
)
def test_what_is_no_tiles(tiles: Any, name: str) -> None:
    message = rf"tiles must be GeoTiffTiles, a DataLoader, .*, got {name} \(for a folder: GeoTiff"
    with pytest.raises(ValueError, match=message):
        open_source(tiles, samples=100, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        open_source([IMAGES], samples=100, seed=-1)


# Batches


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        [IMAGES, torch.zeros(6)],
        (IMAGES,),
        ({"image": IMAGES}, torch.zeros(6)),
        {"image": IMAGES, "mask": torch.zeros(6)},
    ],
    ids=["tensor", "list", "tuple", "dict in a tuple", "dict"],
)
def test_the_image_of_a_batch(batch: Any) -> None:
    tiles = unpack(batch, ())
    assert tiles.image is IMAGES
    assert (tiles.inputs, tiles.names) == ({}, None)


def test_listed_images_of_a_batch() -> None:
    assert torch.equal(unpack({"image": list(IMAGES)}, ()).image, IMAGES)
    with pytest.raises(ValueError, match="images of a batch are of several sizes"):
        unpack({"image": [IMAGES[0], IMAGES[0, :, :1]]}, ())


def test_a_batch_of_modalities() -> None:
    batch = {"S2L2A": IMAGES, "S1GRD": IMAGES}
    assert unpack(batch, ()).image == batch
    inner = {"image": batch, "filename": ["a.tif"]}
    assert unpack(inner, ()).image is batch


def test_names_and_further_inputs_of_a_batch() -> None:
    dates = torch.zeros(6, 1, 2)
    batch = {"image": IMAGES, "temporal_coords": dates, "filename": [Path("a.tif"), "b.tif"]}
    tiles = unpack(batch, ("temporal_coords", "location_coords"))
    assert list(tiles.inputs) == ["temporal_coords"]
    assert tiles.inputs["temporal_coords"] is dates
    assert tiles.names == ["a.tif", "b.tif"]
    assert unpack(batch, ()).inputs == {}


@pytest.mark.parametrize("batch", ["a.tif", 3, None, [], np.zeros((2, 3, 4, 4))])
def test_what_is_no_batch(batch: Any) -> None:
    name = type(batch).__name__
    with pytest.raises(ValueError, match=f"a batch of tiles must be a tensor, .*, got {name}"):
        unpack(batch, ())
