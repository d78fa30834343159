"""probe(): backbones, tiles and labels together."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import terratorch_simpler as simpler
from terratorch_simpler.backbones.backbone import load_backbone
from terratorch_simpler.probing.labels import Labels
from terratorch_simpler.probing.probe import ProbeSettings, ProbeWarning, run_probe
from terratorch_simpler.probing.tokens import FeatureReader
from tests.conftest import TINY, MakePlan
from tests.layers.test_sampler import layers_of

Batches = list[dict[str, Any]]
ROWS, COLUMNS, PATCH = 2, 3, 16


def patches(tiles: int, seed: int, *shape: int) -> Tensor:
    """Images of one random value a patch and band: [tiles, *shape, rows, columns]."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(tiles, *shape, ROWS, COLUMNS, generator=random)


def pixels(values: Tensor) -> Tensor:
    return values.repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)


def regression(tiles: int, seed: int, batch: int = 4) -> Batches:
    """The value of band 1 under each pixel."""
    values = patches(tiles, seed, 6)
    images, masks = pixels(values), pixels(values[:, 1])
    return [
        {"image": image, "mask": mask}
        for image, mask in zip(torch.split(images, batch), torch.split(masks, batch), strict=True)
    ]


def run(backbone: Any, train: Any, val: Any = None, **options: Any) -> simpler.Probe:
    settings: dict[str, Any] = {"task": "regression", "progress": False, "accelerator": "cpu"}
    return simpler.probe(backbone, train, val, **settings | options)


@pytest.fixture(scope="module")
def wide(build: Callable[..., Any]) -> nn.Module:
    module: nn.Module = build(img_size=(ROWS * PATCH, COLUMNS * PATCH))
    return module


def test_what_a_patch_holds_is_in_its_own_token(wide: nn.Module) -> None:
    """Layer 0 is linear in the pixels: only a wrong order of rows or columns could hide them."""
    found = run(wide, regression(60, 0), regression(20, 1))
    assert (found.metric, found.train_tiles, found.val_tiles) == ("R2", 60, 20)
    assert list(found.scores) == list(range(13))
    assert found.scores[0] > 0.99
    assert found.backbone == "PrithviViT"


def test_batches_change_nothing(wide: nn.Module) -> None:
    once, streamed = (
        run(wide, regression(24, 0, size), regression(12, 1, size)) for size in (12, 1)
    )
    assert streamed.scores == pytest.approx(once.scores, abs=1e-5)
    assert streamed.penalties == once.penalties


def test_the_frames_of_a_tile_are_averaged(build: Callable[..., Any]) -> None:
    module = build(img_size=(ROWS * PATCH, COLUMNS * PATCH), num_frames=3)

    def tiles(count: int, seed: int) -> Batches:
        values = patches(count, seed, 6, 3)
        return [{"image": pixels(values), "mask": pixels(values[:, 1].mean(1))}]

    assert run(module, tiles(80, 0), tiles(20, 1)).scores[0] > 0.99


def test_the_modalities_of_a_tile_are_averaged(build: Callable[..., Any]) -> None:
    module = build("terramind_v1_tiny", modalities=["S2L2A", "S1GRD"], img_size=224)

    def tiles(count: int, seed: int) -> Batches:
        values = {"S2L2A": patches(count, seed, 12), "S1GRD": patches(count, seed + 9, 2)}
        mask = pixels(values["S2L2A"][:, 1] - values["S1GRD"][:, 0])
        return [{"image": {name: pixels(value) for name, value in values.items()}, "mask": mask}]

    assert run(module, tiles(80, 0), tiles(20, 1)).scores[0] > 0.99


def test_frames_that_are_run_one_by_one_are_averaged(wide: nn.Module) -> None:
    """As behind TerraTorch's temporal wrapper: each frame is a tile of its own to the backbone."""
    backbone = replace(load_backbone(wide), by_frame=True)

    def tiles(count: int, seed: int) -> Batches:
        values = patches(count, seed, 6, 2)
        mask = pixels(values[:, 1].mean(1))
        return [
            {"image": image, "mask": own}
            for image, own in zip(torch.split(pixels(values), 5), torch.split(mask, 5), strict=True)
        ]

    settings = ProbeSettings(accelerator="cpu", progress=False)
    found = run_probe(backbone, tiles(60, 0), tiles(20, 1), Labels("regression"), settings)
    assert (found.train_tiles, found.val_tiles) == (60, 20)
    assert found.scores[0] > 0.99


def test_classes_are_read_from_the_mean_patch_token(tiny_prithvi: Any, images: Tensor) -> None:
    with FeatureReader(load_backbone(tiny_prithvi), dense=False, seed=0) as reader:
        features = reader(images, range(2))
    expected = torch.stack(
        [layer.mean(1, keepdim=True) for layer in layers_of(tiny_prithvi, images)]
    )
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-6)


def test_the_grid_is_that_of_the_patch_tokens(wide: Any) -> None:
    (batch,) = regression(4, 0)
    with FeatureReader(load_backbone(wide), dense=True, seed=0) as reader:
        features = reader(batch["image"], range(4))
    assert reader.grid == (ROWS, COLUMNS)
    torch.testing.assert_close(
        features, torch.stack(layers_of(wide, batch["image"])), rtol=1e-5, atol=1e-6
    )


def test_classification_and_several_labels(tiny_prithvi: nn.Module) -> None:
    def tiles(count: int, seed: int) -> Any:
        random = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 2, (count, 2), generator=random)
        images = torch.randn(count, 6, 32, 32, generator=random) * 0.2
        images[:, :2] += labels[:, :, None, None]
        return [
            {"image": image, "several": several, "label": several[0]}
            for image, several in zip(images, labels, strict=True)
        ]

    train, val = (DataLoader(tiles(count, count), batch_size=8) for count in (64, 24))
    found = run(tiny_prithvi, train, val, task="classification", num_classes=2)
    assert (found.metric, found.scores[0]) == ("accuracy", 1.0)
    both = ([batch | {"label": batch["several"]} for batch in part] for part in (train, val))
    found = run(tiny_prithvi, *both, task="multilabel")
    assert found.metric == "average precision"
    assert found.scores[0] == pytest.approx(1.0)


def test_samples_caps_the_training_tiles_only(wide: nn.Module) -> None:
    train = regression(30, 0)
    found = run(wide, train, regression(12, 1), samples=10)
    assert (found.train_tiles, found.val_tiles) == (10, 12)
    cut = [*train[:2], {key: value[:2] for key, value in train[2].items()}]
    assert found.scores == run(wide, cut, regression(12, 1)).scores


def test_the_backbone_is_left_as_it_was(build: Callable[..., Any]) -> None:
    module = build(img_size=(ROWS * PATCH, COLUMNS * PATCH)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    run(module, regression(8, 0), regression(4, 1))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_a_plan_is_compared(build: Callable[..., Any], make_plan: MakePlan, tmp_path: Any) -> None:
    options = {"img_size": 48}
    tiles = [{"image": torch.randn(8, 6, 48, 48), "mask": torch.randn(8, 48, 48)}]
    plan = make_plan(arguments={})
    plan.save(tmp_path / "plan.json")
    for given in (plan, tmp_path / "plan.json"):
        assert run(TINY, tiles, tiles, plan=given, **options).chosen == plan.depth
    with pytest.raises(ValueError, match="made for another backbone: x in the plan"):
        run(TINY, tiles, tiles, plan=make_plan(name="x"), **options)
    with pytest.raises(FileNotFoundError, match="no plan at"):
        run(TINY, tiles, tiles, plan="gone.json", **options)
    other = plan.model_copy(update={"kept_blocks": [0, 2, 4, 6]})
    with pytest.warns(ProbeWarning, match="keeps blocks 0, 2, 4, 6, .* first blocks"):
        assert run(TINY, tiles, tiles, plan=other, **options).chosen is None


def test_a_class_missing_from_the_training_tiles_is_a_warning(wide: nn.Module) -> None:
    train, val = regression(8, 0), regression(4, 1)
    for batch in train + val:
        batch["mask"] = (batch["mask"] > 0).long()
    val[0]["mask"][:, :4] = 2
    with pytest.warns(ProbeWarning, match="class 2 is in the validation tiles but in no training"):
        run(wide, train, val, task="segmentation", num_classes=3)


BATCH = regression(4, 0)[0]


@pytest.mark.parametrize(
    ("train", "val", "options", "message"),
    [
        ([BATCH], None, {}, "no tiles to validate on: give val"),
        ([BATCH], [], {}, "no tiles to validate on"),
        ([], [BATCH], {}, "0 training tiles, at least 4 are needed"),
        (3, [BATCH], {}, "train must be a DataLoader, .* got int"),
        ([BATCH], "tiles/", {}, "val must be a DataLoader, .* got str"),
        ([{"image": BATCH["image"]}], [BATCH], {}, "no 'mask' tensor"),
        ([BATCH], [{"image": BATCH["image"]}], {}, "no 'mask' tensor"),
        ([BATCH], [BATCH], {"task": "segmentation"}, "needs num_classes"),
        ([BATCH], [BATCH], {"task": "detection"}, "task must be one of segmentation"),
        ([BATCH], [BATCH], {"samples": 3}, "samples must be at least 4, got 3"),
        ([BATCH], [BATCH], {"seed": -1}, "seed must be at least 0, got -1"),
        ([BATCH], [BATCH], {"accelerator": "abacus"}, "'abacus'"),
        ([BATCH | {"mask": torch.randn(4, 33, 48)}], [BATCH], {}, "33 x 48 px cannot be cut"),
        ([BATCH | {"image": torch.randn(4, 5, 32, 48)}], [BATCH], {}, "reads 6 bands"),
        ([BATCH | {"image": torch.full((4, 6, 32, 48), torch.nan)}], [BATCH], {}, "NaN or inf"),
        ([BATCH | {"mask": torch.ones(4, 32, 48)}], [BATCH], {}, "are 1 everywhere"),
    ],
)
def test_mistakes(wide: nn.Module, train: Any, val: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(wide, train, val, **options)


def test_chips_hold_no_labels(wide: nn.Module, tmp_path: Any) -> None:
    from tests.rasters import BANDS, write_tiles

    write_tiles(tmp_path / "tiles")
    chips = simpler.GeoTiffTiles(tmp_path / "tiles", BANDS, size=32)
    with pytest.raises(ValueError, match="train is GeoTiffTiles, which hold no labels"):
        run(wide, chips, regression(4, 0))


def test_modalities_of_different_sizes_have_no_one_grid(build: Callable[..., Any]) -> None:
    module = build("terramind_v1_tiny", modalities=["S2L2A", "S1GRD"], img_size=224)
    image = {"S2L2A": torch.randn(4, 12, 64, 64), "S1GRD": torch.randn(4, 2, 32, 32)}
    tiles = [{"image": image, "mask": torch.randn(4, 64, 64)}]
    with pytest.raises(ValueError, match=r"different sizes .*make them one size"):
        run(module, tiles, tiles)


def test_a_good_probe_warns_of_nothing(wide: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ProbeWarning)
        run(wide, regression(8, 0), regression(4, 1))
