"""The paper kit: its rows and configs, the readers on tiny layouts, the runner's table."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

from studies.paper import run, table
from studies.paper.bigearthnet import Patches
from studies.paper.cifar100 import CIFAR100, Pictures
from studies.paper.datamodule import PaperDataModule, channels_of, turned
from studies.paper.layout import COUNTS, lay_out
from studies.paper.mados import BANDS, MADOS, Crops
from studies.paper.rows import CONFIGS, Row, compose, datasets, models, row_of, rows
from studies.paper.run import Result, Run, run_all
from studies.paper.sen4map import Places
from studies.tables import read_csv
from tests.rasters import write_raster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tiny layouts. Tests must leave them as they are."""
    folder = tmp_path_factory.mktemp("paper")
    lay_out(folder)
    return folder


def _config(row: Row, **how: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(compose(row, Path("/data"), **how))
    return config


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_every_row_has_a_config(row: Row) -> None:
    text = compose(row, Path("/data"), seed=3)
    assert "$" not in text
    config = yaml.safe_load(text)
    assert config["seed_everything"] == 3
    arguments = config["model"]["init_args"]["model_args"]
    assert arguments["backbone_pretrained"] is True
    given = config["data"]["init_args"]
    assert len(given["bands"]) == len(given["means"]) == len(given["stds"])
    assert given["root"].startswith("/data")
    named = arguments.get("backbone_bands", given["bands"])
    assert (named["S2L2A"] if isinstance(named, dict) else named) == given["bands"]
    assert set(datasets()[row.dataset]["paper"]) <= set(datasets()[row.dataset]["models"])
    random = _config(row, pretrained=False)
    assert random["model"]["init_args"]["model_args"]["backbone_pretrained"] is False


def test_rows_of_a_data_set_differ_in_the_model_alone() -> None:
    for name, entry in datasets().items():
        left = []
        for model in entry["models"]:
            config = _config(Row(name, model))
            for key in ("bands", "means", "stds"):
                del config["data"]["init_args"][key]
            arguments = config["model"]["init_args"]["model_args"]
            for key in [key for key in arguments if key.startswith("backbone")]:
                del arguments[key]
            for neck in arguments["necks"]:
                for key in ("indices", "remove_cls_token", "drop_cls", "effective_time_dim"):
                    neck.pop(key, None)
            left.append(config)
        assert all(config == left[0] for config in left)


def test_statistics_are_those_of_the_pre_training() -> None:
    from terratorch.models.backbones.prithvi_vit import (
        PRETRAINED_BANDS,
        PRITHVI_V2_MEAN,
        PRITHVI_V2_STD,
        prithvi_cfgs,
    )

    for name in ("prithvi_eo_v2_300", "prithvi_eo_v2_100_tl"):
        model = models()[name]
        assert list(model["statistics"]) == [str(getattr(b, "value", b)) for b in PRETRAINED_BANDS]
        values = [list(pair) for pair in zip(PRITHVI_V2_MEAN, PRITHVI_V2_STD, strict=True)]
        assert list(model["statistics"].values()) == values
        assert model["depth"] == prithvi_cfgs[name]["depth"]
    shipped = yaml.safe_load((ROOT / "configs" / "terramind" / "segmentation.yaml").read_text())
    means, stds = (shipped["data"]["init_args"][key]["S2L2A"] for key in ("means", "stds"))
    found = models()["terramind_v1_base"]["statistics"].values()
    assert list(found) == [list(pair) for pair in zip(means, stds, strict=True)]
    mae = _config(row_of("cifar100-vit_mae_base"))["data"]["init_args"]
    shipped = yaml.safe_load((ROOT / "configs" / "vit_mae" / "classification.yaml").read_text())
    given = shipped["data"]["init_args"]
    assert (mae["means"], mae["stds"]) == (given["means"], given["stds"])


def test_time_is_an_axis_or_a_wrapper() -> None:
    prithvi = _config(row_of("sen4map-prithvi_eo_v2_300"))["model"]["init_args"]["model_args"]
    terramind = _config(row_of("sen4map-terramind_v1_base"))["model"]["init_args"]["model_args"]
    assert prithvi["backbone_num_frames"] == 12
    assert terramind["backbone_use_temporal"] is True
    assert terramind["backbone_temporal_n_timestamps"] == 12
    assert [each["necks"][0]["effective_time_dim"] for each in (prithvi, terramind)] == [12, 1]
    single = _config(row_of("mados-terramind_v1_base"))["model"]["init_args"]["model_args"]
    assert "backbone_use_temporal" not in single


def test_no_such_row() -> None:
    with pytest.raises(ValueError, match="no row mados-x: there are mados-prithvi_eo_v2_300, "):
        row_of("mados-x")


def test_mados_bands_are_in_order_of_wavelength(tmp_path: Path) -> None:
    """Of either satellite, whatever their resolution; values are reflectance x 10000."""
    wavelengths = (442, 492, 559, 665, 704, 739, 780, 833, 864, 1610, 2186)
    places = dict.fromkeys(wavelengths, 20) | {442: 60, 492: 10, 559: 10, 665: 10, 833: 10}
    for number, wavelength in enumerate(wavelengths):
        size = 2400 // places[wavelength]
        band = np.full((1, size, size), 0.01 * (number + 1), np.float32)
        band[0, 0, 0] = np.nan
        file = f"Scene_7/{places[wavelength]}/Scene_7_L2R_rhorc_{wavelength}_3.tif"
        write_raster(tmp_path / file, band, dtype="float32", crs=None)
    label = np.zeros((1, 240, 240), np.uint8)
    label[0, 5, 6] = 15
    write_raster(tmp_path / "Scene_7/10/Scene_7_L2R_cl_3.tif", label, dtype="uint8", crs=None)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train_X.txt").write_text("Scene_7_3\n")
    sample = Crops(tmp_path, "train", BANDS)[0]
    assert sample["image"].shape == (11, 240, 240)
    values = [100.0 * (number + 1) for number in range(11)]
    assert sample["image"][:, 100, 100].tolist() == pytest.approx(values)
    # One pixel of 60 m is 6 x 6 of 10 m.
    assert int(sample["image"][0].isnan().sum()) == 36
    assert sample["mask"].unique().tolist() == [-1, 14]
    assert sample["mask"][5, 6] == 14
    chosen = Crops(tmp_path, "train", ["SWIR_2", "BLUE"])[0]["image"]
    assert chosen[:, 100, 100].tolist() == pytest.approx([1100.0, 200.0])


def test_mados_that_is_not_complete(data: Path, tmp_path: Path) -> None:
    root = tmp_path / "MADOS"
    shutil.copytree(data / "MADOS", root)
    (root / "Scene_0/20/Scene_0_L2R_rhorc_783_1.tif").unlink()
    with pytest.raises(FileNotFoundError, match=r"crop Scene_0_1 .* has 10 of 11 bands"):
        Crops(root, "train", BANDS)
    (root / "splits/train_X.txt").write_text("Scene\n")
    with pytest.raises(ValueError, match="which is not SCENE_CROP"):
        Crops(root, "train", BANDS)
    with pytest.raises(FileNotFoundError, match="no list of crops"):
        Crops(tmp_path, "train", BANDS)
    with pytest.raises(ValueError, match="no band THERMAL: the files hold COASTAL_AEROSOL, "):
        channels_of(["THERMAL"], BANDS)


def test_bigearthnet(data: Path, tmp_path: Path) -> None:
    from studies.paper.bigearthnet import BANDS

    for split, count in COUNTS.items():
        assert len(Patches(data / "BigEarthNetV2", split, BANDS)) == count  # type: ignore[arg-type]
    patches = Patches(data / "BigEarthNetV2", "test", BANDS)
    sample = patches[0]
    assert sample["image"].shape == (12, 120, 120)
    assert sample["label"].shape == (19,)
    assert 0 < int(sample["label"].sum()) < 19
    # The map that torchgeo adds would reach the model.
    assert set(sample) == {"image", "label", "filename"}
    red = Patches(data / "BigEarthNetV2", "test", ["RED"])[0]["image"]
    assert torch.equal(red[0], sample["image"][3])
    with pytest.raises(FileNotFoundError, match="torchgeo finds no BigEarthNet v2"):
        Patches(tmp_path, "test", BANDS)


def test_bigearthnet_bands_are_in_torchgeos_order(data: Path, tmp_path: Path) -> None:
    from studies.paper.bigearthnet import BANDS

    shutil.copytree(data / "BigEarthNetV2", tmp_path / "ben")
    names = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
    sample = Patches(tmp_path / "ben", "val", BANDS)[0]
    (patch,) = (tmp_path / "ben/BigEarthNet-S2").rglob(sample["filename"])
    for value, name in enumerate(names):
        band = np.full((1, 60, 60), value)
        write_raster(patch / f"{patch.name}_{name}.tif", band, dtype="uint16", crs=None)
    image = Patches(tmp_path / "ben", "val", BANDS)[0]["image"]
    assert image[:, 0, 0].tolist() == list(range(12))


def test_sen4map_is_monthly(data: Path, tmp_path: Path) -> None:
    from studies.paper.sen4map import BANDS

    places = Places(data / "Sen4Map" / "train.h5", BANDS)
    assert len(places) == COUNTS["train"]
    sample = places[1]
    assert sample["image"].shape == (10, 12, 64, 64)
    assert sample["label"] == 3
    with h5py.File(data / "Sen4Map" / "train.h5") as file:
        series = file[places.names[1]][:]
    # The second date of the second month, whose first is clear as well: torch's lower median.
    lower = np.minimum(series["B4"][2], series["B4"][3])
    assert np.array_equal(sample["image"][2, 1].numpy(), lower)
    red = Places(data / "Sen4Map" / "train.h5", ["RED"])[1]["image"]
    assert torch.equal(red[0], sample["image"][2])
    with pytest.raises(FileNotFoundError, match=r"it comes as train\.h5, val\.h5 and test\.h5"):
        Places(tmp_path / "train.h5", BANDS)


def test_cifar100_has_a_validation_split(data: Path, tmp_path: Path) -> None:
    bands = ["RED", "GREEN", "BLUE"]
    train, val, test = (Pictures(data, split, bands) for split in ("train", "val", "test"))
    assert [len(train), len(val), len(test)] == [18, 2, 10]
    pictures = {bytes(image.tobytes()) for image in (*train.images, *val.images)}
    assert len(pictures) == 20
    assert train[0]["image"].shape == (3, 32, 32)
    swapped = Pictures(data, "test", ["BLUE", "GREEN", "RED"])[0]["image"]
    assert torch.equal(swapped, test[0]["image"].flip(0))
    with pytest.raises(FileNotFoundError, match=r"unpack cifar-100-python\.tar\.gz"):
        Pictures(tmp_path, "test", bands)


def _module(kind: type[PaperDataModule], *, training: bool, **how: Any) -> PaperDataModule:
    module = kind("nowhere", ["RED", "BLUE"], [1.0, 2.0], [2.0, 4.0], **how)
    module.trainer = SimpleNamespace(training=training)  # type: ignore[assignment]
    return module


def test_batches_are_normalised_and_resized() -> None:
    module = _module(CIFAR100, training=False, size=8)
    image = torch.full((3, 2, 4, 4), 5, dtype=torch.uint8)
    image = module.on_after_batch_transfer({"image": image, "label": torch.zeros(3)}, 0)["image"]
    assert image.shape == (3, 2, 8, 8)
    assert image[0, :, 4, 4].tolist() == [2.0, 0.75]
    holes = torch.full((1, 2, 4, 4), torch.nan)
    assert (
        not _module(MADOS, training=False)
        .on_after_batch_transfer({"image": holes}, 0)["image"]
        .any()
    )


def test_images_and_masks_turn_together_and_in_training_only() -> None:
    torch.manual_seed(0)
    mask = torch.arange(16).reshape(1, 4, 4).repeat(40, 1, 1)
    image = mask[:, None].repeat(1, 2, 1, 1)
    still = _module(MADOS, training=False).on_after_batch_transfer(
        {"image": image.clone(), "mask": mask.clone()}, 0
    )
    assert torch.equal(still["mask"], mask)
    moved = _module(MADOS, training=True).on_after_batch_transfer(
        {"image": image.clone(), "mask": mask.clone()}, 0
    )
    assert torch.equal(moved["image"][:, 0] * 2 + 1, moved["mask"].float())
    assert len({tuple(one.flatten().tolist()) for one in moved["mask"]}) == 8
    flipped = _module(CIFAR100, training=True).on_after_batch_transfer({"image": image}, 0)
    assert len({tuple(one[0].flatten().tolist()) for one in flipped["image"]}) == 2
    assert torch.equal(turned(mask, 0), mask)


def test_a_datamodule_that_is_wrong() -> None:
    with pytest.raises(ValueError, match="1 bands, 2 means and 1 stds"):
        MADOS("nowhere", ["RED"], [1.0, 2.0], [1.0])
    with pytest.raises(FileNotFoundError, match="no folder nowhere"):
        _module(MADOS, training=True).setup("fit")


def test_less_than_a_batch_is_no_data_set(data: Path) -> None:
    module = MADOS(str(data / "MADOS"), ["RED"], [1.0], [1.0], batch_size=5, num_workers=0)
    module.setup("fit")
    with pytest.raises(ValueError, match="4 images for training, less than a batch of 5"):
        module.train_dataloader()
    assert len(module.val_dataloader()) == 1


def _result(
    row: Row, variant: str, weights: str = "hub", accuracy: float = 0.5, seed: int = 0
) -> Result:
    cut = variant == "simpler"
    return Result(
        row.name, variant, weights, seed, "mIoU", accuracy, 5 if cut else row.depth,  # type: ignore[arg-type]
        75_900_000 if cut else 315_200_000, 10, 1.0, 10.0 if cut else 25.0,
        2.0 if cut else 6.0, 8, "gpu",
    )  # fmt: skip


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run_or_end(self: Run) -> Result:
        ran.append(f"{self.row.name} {self.variant}")
        if len(ran) == 2:
            raise KeyboardInterrupt
        return _result(self.row, self.variant, self.weights)

    monkeypatch.setattr(Run, "__call__", run_or_end)
    row = row_of("mados-prithvi_eo_v2_300")
    runs = [Run(row, variant, tmp_path, tmp_path) for variant in ("full", "simpler")]
    file = tmp_path / "new" / "table.csv"
    with pytest.raises(KeyboardInterrupt):
        list(run_all(runs, file))
    assert len(read_csv(Result, file)) == 1
    assert [line.variant for line in run_all(runs, file)] == ["simpler"]
    assert read_csv(Result, file) == [_result(row, "full"), _result(row, "simpler")]
    assert list(run_all(runs, file)) == []
    assert len(ran) == 3


def test_the_table_has_the_papers_figures_beside_ours() -> None:
    row = row_of("mados-prithvi_eo_v2_300")
    full = [
        _result(row, "full", accuracy=accuracy, seed=i) for i, accuracy in enumerate((0.6, 0.7))
    ]
    cut = _result(row, "simpler", accuracy=0.62)
    other = _result(row, "simpler", weights="random", accuracy=0.01)
    lines = table.format_table([*full, cut, other], "hub").splitlines()
    assert len(lines) == 2 + len(rows())
    assert lines[2] == (
        "| MADOS | Prithvi-EO-2 300M | 66.9 | 62.8 | 94 % | 65.0 | 62.0 | 95 % | 5 of 24 | "
        "315.2 M to 75.9 M | 2.5x | 3.0x |"
    )
    assert lines[3] == "| MADOS | TerraMind base |  |  |  |  |  |  |  |  |  |  |"
    assert lines[-1].startswith("| CIFAR-100 | ViT-MAE base |  | 72.8 |  |  |")
    random = table.format_table([other], "random")
    assert "| 1.0 |" in random
    assert "62.8" not in random


def test_the_table_says_what_random_weights_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.main(tmp_path / "none.csv")
    assert table.RANDOM not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the folder of the data sets"),
        (["--smoke", "--data", "x"], "or --smoke and no folder"),
        (["--data", "x"], "name a row"),
        (["--data", "x", "--row", "mados"], "no row mados: there are"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_every_template_belongs_to_a_data_set() -> None:
    names = {path.stem for path in CONFIGS.glob("*.yaml")} - {"rows", "models"}
    assert names == set(datasets())
