from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import terratorch_simpler as simpler
from terratorch_simpler.backbones.backbone import Backbone, load_backbone
from terratorch_simpler.precision import full_float32
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.selection.select import SelectionWarning, calibrate

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
SAMPLES = Path(str(files("terratorch_simpler"))) / "samples"
IMAGES = SAMPLES / "train" / "images"
NAME = "prithvi_eo_v2_tiny_tl"
WEIGHTS: dict[str, Any] = {
    "pretrained": True,
    "ckpt_path": str(SAMPLES / f"{NAME}.pt"),
    "bands": BANDS,
}


@pytest.fixture(scope="module")
def trained() -> Backbone:
    return load_backbone(NAME, **WEIGHTS)


def _chips(**options: Any) -> simpler.GeoTiffTiles:
    return simpler.GeoTiffTiles(IMAGES, BANDS, **{"size": 128, "samples": 40} | options)


def _plan(backbone: str | nn.Module, tiles: Any, **options: Any) -> PruningPlan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        return simpler.select(backbone, tiles, **{"progress": False} | options)


def test_the_plan_does_not_depend_on_the_batch_size() -> None:
    plans = [_plan(NAME, _chips(batch_size=size), **WEIGHTS) for size in (1, 4, 16)]
    for plan in plans[1:]:
        assert plan.kept_blocks == plans[0].kept_blocks
        assert plan.depth_shares == plans[0].depth_shares
        assert plan.tiles == plans[0].tiles
        np.testing.assert_allclose(plan.similarity, plans[0].similarity, atol=2e-6)


def test_the_same_selection_twice_gives_the_same_file() -> None:
    first, second = (_plan(NAME, _chips(samples=16), **WEIGHTS) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert _plan(NAME, _chips(samples=16, seed=1), **WEIGHTS).tiles.names != first.tiles.names


def test_the_similarity_is_that_of_the_raw_block_outputs(trained: Backbone) -> None:
    chips = _chips(means=[0.0] * 6, stds=[1e3] * 6)
    plan = _plan(trained.module, chips, pooling="mean", accelerator="cpu")
    images = torch.cat([batch["image"] for batch in _chips()]) / 1e3
    raw: list[Tensor] = []
    with torch.no_grad(), full_float32():
        x = trained.module.patch_embed(images.unsqueeze(2))  # type: ignore[operator]
        position = trained.module.interpolate_pos_encoding((1, 128, 128))  # type: ignore[operator]
        token = (trained.module.cls_token + position[:, :1]).expand(len(images), -1, -1)
        x = torch.cat([token, x + position[:, 1:]], dim=1)
        for block in [nn.Identity(), *trained.module.blocks]:  # type: ignore[misc]
            x = block(x)
            raw.append(x[:, 1:].mean(dim=1))
    # 40 tiles of one sample each: a group of 32 and the rest, which is a group of its own.
    terms = np.zeros((13, 13))
    for part in (slice(0, 32), slice(32, 40)):
        terms += _hsic([layer[part].double().numpy() for layer in raw])
    norm = np.sqrt(np.diag(terms))
    np.testing.assert_allclose(plan.similarity, terms / np.outer(norm, norm), atol=1e-4)


def _hsic(layers: list[Any]) -> Any:
    """Song et al. (2012), term by term."""
    grams = []
    for layer in layers:
        centred = layer - layer.mean(axis=0)
        gram = centred @ centred.T
        np.fill_diagonal(gram, 0)
        grams.append(gram)
    n = len(grams[0])
    one = np.ones(n)
    return np.array(
        [
            [
                np.trace(k @ m)
                + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
                - 2 / (n - 2) * (one @ k @ m @ one)
                for m in grams
            ]
            for k in grams
        ]
    ) / (n * (n - 3))


def test_the_plan_says_what_it_was_made_from() -> None:
    plan = _plan(NAME, _chips(samples=16, seed=3), tokens=8, **WEIGHTS)
    assert (plan.backbone.name, plan.backbone.depth, plan.backbone.width) == (NAME, 12, 192)
    assert plan.backbone.pretrained is True
    assert plan.backbone.arguments["ckpt_path"] == WEIGHTS["ckpt_path"]
    assert (plan.tiles.used, plan.tiles.seed, plan.tokens) == (16, 3, 8)
    assert len(set(plan.tiles.names)) == 16
    assert set(plan.others) == {
        *("stabilization", "redundancy", "contrast", "knee"),
        *("spatial_contrast", "spatial_rise", "participation", "rankme", "neighbours"),
        *("block_influence", "angular_distance", "uniform", "first"),
    }
    assert plan.backbone.fingerprint == load_backbone(NAME, **WEIGHTS).fingerprint()
    pruned = simpler.prune(NAME, plan, **WEIGHTS)
    assert plan.backbone.kept_parameters == sum(p.numel() for p in pruned.parameters())


def test_other_weights_have_another_fingerprint(trained: Backbone) -> None:
    assert load_backbone(NAME, pretrained=False).fingerprint() != trained.fingerprint()


def _swap(weight: Tensor, a: int, b: int) -> None:
    weight[[a, b]] = weight[[b, a]]


CHANGES: dict[str, Callable[[Tensor], object]] = {
    "one bit": lambda weight: weight.view(torch.int32)[3, 5].bitwise_xor_(1),
    "sign": lambda weight: weight[3, 5].neg_(),
    "rows": lambda weight: _swap(weight, 0, 1),
    "columns": lambda weight: _swap(weight.T, 0, 2),
    "elements": lambda weight: _swap(weight[7], 0, 9),
    "turned": lambda weight: weight.copy_(weight.flatten().roll(1).view_as(weight)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_of_a_weight_changes_the_fingerprint(
    trained: Backbone, change: Callable[[Tensor], object]
) -> None:
    before = trained.fingerprint()
    weight = trained.module.blocks[4].mlp.fc1.weight.detach()  # type: ignore[union-attr, index]
    kept = weight.clone()
    try:
        change(weight)
        assert trained.fingerprint() != before
    finally:
        weight.copy_(kept)
    assert trained.fingerprint() == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("width", [4, 5])
def test_fingerprint_of_other_types_and_odd_sizes(dtype: torch.dtype, width: int) -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(2 * width, 2, 7), 3).to(dtype)
    backbone = load_backbone(encoder, blocks="layers")
    before = backbone.fingerprint()
    bias = encoder.layers[2].linear1.bias.detach()
    bias[6] += 1
    assert backbone.fingerprint() != before
    bias[6] -= 1


def test_chips_are_normalised_with_the_statistics_of_the_weights(trained: Backbone) -> None:
    from terratorch.models.backbones.prithvi_vit import PRITHVI_V2_MEAN, PRITHVI_V2_STD

    given = _chips(means=PRITHVI_V2_MEAN, stds=PRITHVI_V2_STD, samples=16)
    by_name = _plan(NAME, _chips(samples=16), **WEIGHTS)
    assert _plan(NAME, given, **WEIGHTS).to_json() == by_name.to_json()
    with pytest.raises(ValueError, match="publishes no statistics"):
        _plan(trained.module, _chips())


def test_any_iterable_of_batches_serves(trained: Backbone) -> None:
    images = torch.randn(12, 6, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = [{"image": image, "filename": str(i)} for i, image in enumerate(images)]
    streams: list[Any] = [
        [images[:5], images[5:]],
        [{"image": images}],
        DataLoader(rows, batch_size=4),  # type: ignore[arg-type]
        [(images, torch.zeros(12))],
    ]
    plans = [_plan(trained.module, stream) for stream in streams]
    assert all(plan.depth_shares == plans[0].depth_shares for plan in plans)
    for plan in plans[1:]:
        np.testing.assert_allclose(plan.similarity, plans[0].similarity, atol=2e-6)
    assert plans[2].tiles.names == [str(i) for i in range(12)]
    assert _plan(trained.module, streams[0], samples=7).tiles.used == 7


def test_the_module_is_left_as_it_was(trained: Backbone) -> None:
    trained.module.train()
    before = {name: value.clone() for name, value in trained.module.state_dict().items()}
    _plan(trained.module, [torch.randn(8, 6, 32, 32)])
    assert trained.module.training
    assert not any(block._forward_hooks for block in trained.module.blocks)  # type: ignore[union-attr]
    after = trained.module.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    trained.module.eval()


def test_random_weights_are_warned_of() -> None:
    with pytest.warns(SelectionWarning, match="not pre-trained"):
        simpler.select(NAME, _chips(samples=8), pretrained=False, progress=False)


def test_tiles_in_other_units_are_warned_of(trained: Backbone) -> None:
    images = torch.rand(8, 6, 32, 32) * 1e-5
    with pytest.warns(SelectionWarning, match="after normalisation"):
        simpler.select(trained.module, [images], progress=False)


def test_a_baseline_keeps_the_depth_that_is_named(trained: Backbone) -> None:
    images = [torch.randn(8, 6, 32, 32, generator=torch.Generator().manual_seed(0))]
    plan = _plan(trained.module, images, criterion="block_influence", depth=4)
    assert plan.depth == 4
    assert plan.confidence is None
    assert plan.stabilizes is None
    assert len(_plan(trained.module, images, criterion="uniform", depth=3).kept_blocks) == 3


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (torch.zeros(8, 5, 32, 32), "reads 6 bands"),
        (torch.zeros(8, 6, 8, 8), "smaller than a patch"),
        (torch.full((8, 6, 32, 32), torch.nan), "NaN or infinity"),
        (torch.zeros(3, 6, 32, 32), "at least 4"),
        ("text", "batch of tiles must be"),
    ],
)
def test_images_that_cannot_be_read_are_refused(
    trained: Backbone, images: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        _plan(trained.module, [images])


def test_tiles_with_fewer_tokens_than_the_others_are_refused(trained: Backbone) -> None:
    images = [torch.randn(4, 6, 64, 64), torch.randn(4, 6, 32, 32)]
    with pytest.raises(ValueError, match="draw fewer tokens"):
        _plan(trained.module, images)
    assert _plan(trained.module, images, tokens=4).tiles.used == 8


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"criterion": "magic"}, "unknown criterion 'magic'"),
        ({"criterion": "uniform"}, "needs a depth"),
        ({"depth": 3}, "chooses the depth itself"),
        ({"criterion": "uniform", "depth": 13}, "has 12 blocks"),
        ({"pooling": "max"}, "tokens or mean"),
        ({"tokens": 0}, "at least 1"),
        ({"samples": 2}, "at least 4"),
    ],
)
def test_options_that_cannot_be_right_are_refused(
    trained: Backbone, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        _plan(trained.module, [torch.randn(8, 6, 32, 32)], **options)


def test_a_calibration_selects_as_select_does(trained: Backbone) -> None:
    wanted = {"tiles": str(IMAGES), "size": 128, "samples": 40, "criterion": "stabilization"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SelectionWarning)
        plan = calibrate(trained, wanted | {"progress": False})
    assert plan == _plan(NAME, _chips(), criterion="stabilization", **WEIGHTS).model_copy(
        update={"tiles": plan.tiles}
    )


@pytest.mark.parametrize(
    ("calibration", "reason"),
    [
        ({"samples": 8}, "lacks tiles"),
        ({"tiles": "x", "tile": 1}, "does not know tile"),
        ({"tiles": "x", "share": 0.9}, "does not know share"),
        ({"tiles": str(IMAGES), "size": 128, "criterion": "probe"}, "needs the labels of a task"),
    ],
)
def test_a_calibration_with_a_mistake_is_refused(
    trained: Backbone, calibration: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        calibrate(trained, calibration)


def test_labels_decide_for_a_config_only() -> None:
    """Said before the backbone is built: there is none of this name."""
    with pytest.raises(
        ValueError, match=r"select --config TASK\.yaml --criterion probe', or select_t"
    ):
        simpler.select("none", _chips(), criterion="probe")
