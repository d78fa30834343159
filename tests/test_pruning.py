"""Pruning a Prithvi. What every backbone promises: `tests/backbones/families/tester.py`."""

from __future__ import annotations

import copy
import gc
import io
import math
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from terratorch_simpler.pruning import output_positions, prune
from terratorch_simpler.results.plan import PruningPlan

Build = Callable[..., Any]
TINY = "prithvi_eo_v2_tiny_tl"

VARIANTS = {
    "prithvi_eo_tiny": (4, 256),
    "prithvi_eo_v1_100": (12, 768),
    "prithvi_eo_v2_tiny_tl": (12, 192),
    "prithvi_eo_v2_100_tl": (12, 768),
    "prithvi_eo_v2_300": (24, 1024),
    "prithvi_eo_v2_300_tl": (24, 1024),
    "prithvi_eo_v2_600": (32, 1280),
    "prithvi_eo_v2_600_tl": (32, 1280),
}
"""Blocks and width of every Prithvi that TerraTorch registers."""

KEPT: list[list[int]] = [[0], [0, 1, 2, 3, 4], list(range(12)), [11], [1, 4, 9], [0, 1, 11]]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@torch.no_grad()
def by_hand(full: Any, images: Tensor, blocks: list[int]) -> list[Tensor]:
    """Raw output of each of these blocks, run one after the other, the last one normed."""
    place = full.interpolate_pos_encoding((1, *images.shape[-2:]))
    patches = full.patch_embed(images[:, :, None]) + place[:, 1:]
    special = (full.cls_token + place[:, :1]).expand(len(images), -1, -1)
    x = torch.cat([special, patches], dim=1)
    outputs = []
    for block in blocks:
        x = full.blocks[block](x)
        outputs.append(x)
    return [*outputs[:-1], full.norm(x)]


@pytest.mark.parametrize("kept", KEPT, ids=str)
def test_outputs_are_those_of_the_kept_blocks_bit_for_bit(
    tiny_prithvi: nn.Module, images: Tensor, kept: list[int]
) -> None:
    outputs = prune(tiny_prithvi, kept, outputs="kept")(images)
    assert equal(outputs, by_hand(tiny_prithvi, images, kept))


def test_keeping_every_block_changes_nothing(tiny_prithvi: nn.Module, images: Tensor) -> None:
    assert equal(prune(tiny_prithvi, 12, outputs="kept")(images), tiny_prithvi(images))


def test_necks_of_the_full_backbone_read_evenly_spaced_blocks() -> None:
    """Entries 5, 11, 17 and 23 of 24 are the outputs of blocks 2, 3, 4 and 5 of 5, from 1 on."""
    positions = output_positions(5, 24, "full_depth", [5, 11, 17, 23])
    assert [position + 1 for position in positions] == [2, 3, 4, 5]


@pytest.mark.parametrize(("kept", "full"), [(1, 12), (5, 24), (7, 12), (11, 12), (12, 12)])
def test_full_depth_positions_follow_the_formula(kept: int, full: int) -> None:
    positions = output_positions(kept, full, "full_depth", None)
    assert positions == [math.ceil((i + 1) * kept / full) - 1 for i in range(full)]
    assert set(positions) == set(range(kept))


def test_kept_positions_are_one_for_each_kept_block() -> None:
    assert output_positions(5, 24, "kept", None) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("outputs", "chosen", "positions"),
    [
        ("full_depth", [2, 5, 8, 11], [1, 2, 4, 5]),
        ("full_depth", [-1], [5]),
        ("full_depth", [-12, 11], [0, 5]),
        ("full_depth", [11, 0], [5, 0]),
        ("kept", [2, 5], [2, 5]),
        ("kept", [-1, -6], [5, 0]),
    ],
)
def test_out_indices_count_into_the_outputs(
    build: Build, images: Tensor, outputs: str, chosen: list[int], positions: list[int]
) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=6, outputs=outputs, out_indices=chosen)
    assert pruned.output_blocks == positions
    assert pruned.out_channels == [192] * len(chosen)
    everything = pruned.forward_features(images)
    assert equal(pruned(images), [everything[position] for position in positions])


@pytest.mark.parametrize(
    ("outputs", "chosen", "message"),
    [
        ("full_depth", [3, 12], r"out_indices \[12\] do not exist: .*there are 12 \(0..11\)"),
        ("full_depth", [-13], r"out_indices \[-13\] do not exist"),
        ("kept", [5, 6, 11], r"out_indices \[6, 11\] do not exist: .*there are 6 \(0..5\)"),
    ],
)
def test_out_indices_that_do_not_exist_are_refused(
    build: Build, outputs: str, chosen: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(f"simpler_{TINY}", keep_blocks=6, outputs=outputs, out_indices=chosen)


def test_unknown_outputs_are_refused(tiny_prithvi: nn.Module) -> None:
    with pytest.raises(ValueError, match="outputs must be one of full_depth, kept, got 'all'"):
        prune(tiny_prithvi, 5, outputs="all")  # type: ignore[arg-type]


def test_kept_blocks_are_renumbered(tiny_prithvi: nn.Module) -> None:
    pruned, full = prune(tiny_prithvi, [3, 7]).state_dict(), tiny_prithvi.state_dict()
    name = "attn.qkv.weight"
    assert torch.equal(pruned[f"blocks.0.{name}"], full[f"blocks.3.{name}"])
    assert torch.equal(pruned[f"blocks.1.{name}"], full[f"blocks.7.{name}"])


def test_state_dict_loads_into_a_shallow_backbone_of_terratorch(
    build: Build, tiny_prithvi: nn.Module, images: Tensor
) -> None:
    pruned = prune(tiny_prithvi, 4, outputs="kept")
    shallow = build(seed=9, depth=4)
    shallow.load_state_dict(pruned.state_dict(), strict=True)
    assert equal(pruned(images), shallow(images))


def test_full_module_stays_as_it_is(build: Build, images: Tensor) -> None:
    full = build()
    before, names = full(images), list(full.state_dict())
    prune(full, [2, 3])(images)
    assert equal(full(images), before)
    assert list(full.state_dict()) == names
    assert full.out_indices == list(range(12))


def test_kept_weights_are_shared(tiny_prithvi: Any) -> None:
    pruned: Any = prune(tiny_prithvi, [1, 4])
    assert [*pruned.blocks] == [tiny_prithvi.blocks[1], tiny_prithvi.blocks[4]]
    assert pruned.norm is tiny_prithvi.norm
    assert pruned.patch_embed.proj.weight is tiny_prithvi.patch_embed.proj.weight


def test_pruned_backbone_is_still_of_its_class(tiny_prithvi: nn.Module) -> None:
    pruned = prune(tiny_prithvi, 2)
    assert isinstance(pruned, type(tiny_prithvi))
    assert type(pruned).__name__ == "PrunedPrithviViT"
    assert type(pruned) is type(prune(tiny_prithvi, 3))


def test_says_which_blocks_were_kept_of_how_many(tiny_prithvi: nn.Module) -> None:
    pruned = prune(tiny_prithvi, [1, 4])
    assert (pruned.kept_blocks, pruned.full_depth, pruned.plan) == ([1, 4], 12, None)


def by_pickle(module: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(module))


def by_torch_save(module: nn.Module) -> Any:
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


COPIES: list[Callable[[nn.Module], Any]] = [copy.deepcopy, by_pickle, by_torch_save]


def test_pickle_holds_the_kept_weights_only(tiny_prithvi: nn.Module) -> None:
    pruned = prune(tiny_prithvi, 2)
    held = sum(weight.nbytes for weight in pruned.state_dict().values())
    assert len(pickle.dumps(pruned)) < 1.1 * held


@pytest.mark.parametrize("duplicate", COPIES)
def test_copy_keeps_the_plan(
    tiny_prithvi: nn.Module,
    make_plan: Callable[..., PruningPlan],
    duplicate: Callable[[nn.Module], Any],
) -> None:
    assert duplicate(prune(tiny_prithvi, make_plan())).plan == make_plan()


def test_gradients_reach_every_kept_block_and_no_removed_one(build: Build, images: Tensor) -> None:
    full = build()
    prune(full, [0, 3, 7])(images)[-1].square().sum().backward()
    reached = {
        index
        for index, block in enumerate(full.blocks)
        if any(weight.grad is not None and weight.grad.any() for weight in block.parameters())
    }
    assert reached == {0, 3, 7}


def test_train_and_eval_reach_the_kept_blocks(build: Build, images: Tensor) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=4, drop_path=0.5)
    assert equal(pruned(images), pruned(images))
    torch.manual_seed(0)
    pruned.train()
    assert not equal(pruned(images), pruned(images))
    pruned.eval()
    assert equal(pruned(images), pruned(images))


@pytest.fixture
def born(monkeypatch: pytest.MonkeyPatch, build: Build) -> list[weakref.ref[nn.Module]]:
    """Every block of the backbones that a test builds."""
    del build  # imports TerraTorch
    from terratorch.models.backbones.prithvi_mae import PrithviViT

    initialise: Callable[..., None] = PrithviViT.__init__
    blocks: list[weakref.ref[nn.Module]] = []

    def recorded(module: Any, *args: Any, **kwargs: Any) -> None:
        initialise(module, *args, **kwargs)
        blocks.extend(weakref.ref(block) for block in module.blocks)

    monkeypatch.setattr(PrithviViT, "__init__", recorded)
    return blocks


def test_removed_blocks_are_freed_at_once(build: Build, born: list[weakref.ref[nn.Module]]) -> None:
    """They can be a gigabyte: too much to wait for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        pruned = build(f"simpler_{TINY}", keep_blocks=2)
        alive = [block() for block in born]
    finally:
        gc.enable()
    assert alive == [*pruned.blocks, *[None] * 10]


def test_prompts_go_with_their_blocks(build: Build) -> None:
    full = build("prithvi_eo_tiny", vpt=True, vpt_n_tokens=4)
    pruned: Any = prune(full, [0, 2])
    prompts = list(pruned.vpt_prompt_embeddings)
    assert len(prompts) == len(pruned.vpt_dropout_layers) == 2
    assert prompts[0] is full.vpt_prompt_embeddings[0]
    assert prompts[1] is full.vpt_prompt_embeddings[2]
    assert type(pruned.vpt_prompt_embeddings) is nn.ParameterList


def test_frames_count_as_channels(build: Build) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=2, num_frames=3)
    assert pruned.out_channels == [3 * 192] * 12
    outputs = pruned(torch.zeros(1, 6, 3, 32, 32))
    pictures = pruned.prepare_features_for_image_model(outputs)
    assert {picture.shape for picture in pictures} == {(1, 3 * 192, 2, 2)}


def test_variants_here_are_those_of_terratorch(build: Build) -> None:
    del build  # imports TerraTorch
    from terratorch.registry import BACKBONE_REGISTRY

    names = {name for name in BACKBONE_REGISTRY["terratorch"] if name.startswith("prithvi_eo")}
    assert names == VARIANTS.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_prithvi_can_be_cut(build: Build, name: str) -> None:
    depth, width = VARIANTS[name]
    with torch.device("meta"):
        pruned = build(f"simpler_{name}", keep_blocks=2, img_size=224)
    assert (len(pruned.blocks), pruned.full_depth) == (2, depth)
    assert pruned.out_channels == [width] * depth


def test_plan_decides_which_blocks_are_kept(
    tiny_prithvi: nn.Module, make_plan: Callable[..., PruningPlan], tmp_path: Path
) -> None:
    plan = make_plan(moving=5)
    plan.save(tmp_path / "plan.json")
    for given in (plan, tmp_path / "plan.json", str(tmp_path / "plan.json")):
        pruned = prune(tiny_prithvi, given)
        assert pruned.kept_blocks == [0, 1, 2, 3, 4]
        assert pruned.plan == plan


def test_plan_for_another_depth_is_refused(
    build: Build, make_plan: Callable[..., PruningPlan]
) -> None:
    with pytest.raises(ValueError, match="another depth: 12 in the plan, 4 here"):
        prune(build("prithvi_eo_tiny"), make_plan())


def test_missing_plan_is_an_error(tiny_prithvi: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no plan at .*gone\.json"):
        prune(tiny_prithvi, tmp_path / "gone.json")


@pytest.mark.parametrize("keep", [0, 13, [], [12], [1, 0]], ids=str)
def test_blocks_that_do_not_exist_are_refused(
    tiny_prithvi: nn.Module, keep: int | list[int]
) -> None:
    with pytest.raises(ValueError, match="keep_blocks"):
        prune(tiny_prithvi, keep)


def test_name_is_built_with_the_arguments_given() -> None:
    pruned: Any = prune("prithvi_eo_tiny", 2, bands=["RED", "GREEN"], img_size=32)
    assert pruned.in_chans == 2


def test_arguments_do_not_go_with_a_module(tiny_prithvi: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"arguments \['bands'\] only go with a name"):
        prune(tiny_prithvi, 2, bands=["RED"])


def test_backbone_that_was_not_built_by_the_registry_is_cut(images: Tensor) -> None:
    from terratorch.models.backbones.prithvi_mae import PrithviViT

    full = PrithviViT(img_size=32, in_chans=6, embed_dim=64, depth=4, num_heads=2).eval()
    features = full.forward_features(images)
    outputs = prune(full, 2)(images)
    assert len(outputs) == 4
    assert torch.equal(outputs[0], features[0])


def test_pruned_backbone_is_not_pruned_again(tiny_prithvi: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"pruned already \(3 of 12 blocks\)"):
        prune(prune(tiny_prithvi, 3), 2)


def test_other_modules_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"the depth of Linear cannot be cut: it has no list of equal transformer blocks",
    ):
        prune(nn.Linear(2, 2), 1)


def test_adapter_module_is_refused(build: Build) -> None:
    del build  # imports TerraTorch
    from terratorch.models.backbones.prithvi_vit_adapter import PrithviViTAdapter

    # Its constructor needs a CUDA extension.
    adapter = PrithviViTAdapter.__new__(PrithviViTAdapter)
    with pytest.raises(ValueError, match="remove vit_adapter to prune"):
        prune(adapter, 5)


def test_adapter_by_name_is_refused_before_it_is_built(build: Build) -> None:
    with pytest.raises(ValueError, match="remove vit_adapter to prune"):
        build("simpler_prithvi_eo_v2_300", vit_adapter=True, keep_blocks=5)
