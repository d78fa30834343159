"""``backbone_patch_embedding``: the same backbone, whose patches are one matrix product."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import terratorch_simpler as simpler
from terratorch_simpler.backbones.patches import PatchConv2d, PatchConv3d
from terratorch_simpler.backbones.pruned import find_pruned
from tests.conftest import TINY
from tests.contract.conftest import CE, KEPT, PRUNED, UNET, MakeTask, MakeTrainer, batches

Build = Callable[..., Any]
RGB = {"model_bands": ["RED", "GREEN", "BLUE"]}


def embedding(module: Any) -> tuple[type[nn.Module], bool | None]:
    """Class of a backbone's patch embedding, and whether it always multiplies."""
    inner = getattr(module, "model", module)
    layer = inner.patch_embed.proj
    return type(layer), getattr(layer, "always", None)


def close(left: Any, right: Any) -> None:
    torch.testing.assert_close(list(left), list(right), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "shape", "layer", "arguments"),
    [
        (TINY, (2, 6, 32, 32), PatchConv3d, {}),
        (TINY, (2, 6, 3, 32, 32), PatchConv3d, {"num_frames": 3}),
        ("timm_vit_tiny_patch16_224", (2, 3, 32, 32), PatchConv2d, {}),
    ],
    ids=["Prithvi", "Prithvi with frames", "timm"],
)
def test_all_ways_give_the_same(
    build: Build,
    name: str,
    shape: tuple[int, ...],
    layer: type[nn.Module],
    arguments: dict[str, Any],
) -> None:
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    plain, auto, product = (
        build(f"simpler_{name}", keep_blocks=3, patch_embedding=way, **arguments)
        for way in ("conv", "auto", "matmul")
    )
    full = build(name, **arguments)
    assert embedding(plain) == embedding(full) != embedding(auto)
    assert (embedding(auto), embedding(product)) == ((layer, False), (layer, True))
    assert embedding(build(f"simpler_{name}", keep_blocks=3, **arguments)) == (layer, False)
    assert plain.state_dict().keys() == product.state_dict().keys() == auto.state_dict().keys()
    product.load_state_dict(plain.state_dict(), strict=True)
    with torch.no_grad():
        expected = plain(images)
        assert all(map(torch.equal, auto(images), expected))
        close(product(images), expected)
        with torch.autocast("cpu", torch.bfloat16):
            found, rounded = auto(images)[0], plain(images)[0]
        assert found.dtype == rounded.dtype
        torch.testing.assert_close(found, rounded, atol=0.1, rtol=0.05)


def test_gradients_are_the_same(build: Build, images: Tensor) -> None:
    slopes = []
    for way in ("conv", "matmul"):
        pruned = build(f"simpler_{TINY}", keep_blocks=3, patch_embedding=way)
        pruned(images)[-1].square().sum().backward()
        slopes.append({name: weight.grad for name, weight in pruned.named_parameters()})
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-3, rtol=1e-3)


def test_the_full_backbone_stays_as_it_is_and_shares_its_weights(
    build: Build, images: Tensor
) -> None:
    full = build()
    before = full(images)
    pruned: Any = simpler.prune(full, 12, patch_embedding="matmul")
    assert embedding(full) == (nn.Conv3d, None)
    assert pruned.patch_embed.proj.weight is full.patch_embed.proj.weight
    assert all(map(torch.equal, full(images), before))
    close(pruned(images), before)


def test_copies_compile_and_export(build: Build, images: Tensor) -> None:
    pruned = build(f"simpler_{TINY}", keep_blocks=2, patch_embedding="matmul", outputs="kept")
    with torch.no_grad():
        expected = pruned(images)
        stream = io.BytesIO()
        torch.save(pruned, stream)
        stream.seek(0)
        for copied in (copy.deepcopy(pruned), torch.load(stream, weights_only=False)):
            assert embedding(copied) == (PatchConv3d, True)
            assert all(map(torch.equal, copied(images), expected))
        torch.compiler.reset()
        compiled: Any = torch.compile(pruned, backend="aot_eager", fullgraph=True)
        close(compiled(images), expected)
        close(torch.export.export(pruned, (images,)).module()(images), expected)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        (
            "terramind_v1_tiny",
            {"modalities": ["S2L2A", "S1GRD"]},
            "each modality is a matrix product already",
        ),
        ("dofa_small_patch16_224", RGB | {"img_size": 224}, "made of the wavelengths"),
        ("timm_xcit_nano_12_p16_224", {}, r"takes patches of \(3, 3\) in steps of \(2, 2\)"),
    ],
)
def test_where_there_is_no_such_convolution_that_is_said(
    build: Build, name: str, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be 'matmul': .*{reason}"):
        build(f"simpler_{name}", keep_blocks=2, patch_embedding="matmul", **arguments)
    for way in ("auto", "conv"):
        pruned = build(f"simpler_{name}", keep_blocks=2, patch_embedding=way, **arguments)
        assert not any(isinstance(part, PatchConv2d | PatchConv3d) for part in pruned.modules())


def test_other_words_are_refused(build: Build, tiny_prithvi: nn.Module) -> None:
    message = "patch_embedding must be one of auto, conv, matmul, got 'linear'"
    with pytest.raises(ValueError, match=message):
        build(f"simpler_{TINY}", keep_blocks=2, patch_embedding="linear")
    with pytest.raises(ValueError, match=message):
        simpler.prune(tiny_prithvi, 2, patch_embedding="linear")  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["conv", "matmul"])
def test_a_task_trained_with_one_loads_in_the_other(
    make_task: MakeTask, make_trainer: MakeTrainer, pictures: Tensor, tmp_path: Any, way: str
) -> None:
    from terratorch.tasks import SemanticSegmentationTask

    arguments = UNET | {"num_classes": 3} | PRUNED
    task = make_task(
        "SemanticSegmentationTask", arguments | {"backbone_patch_embedding": way}, **CE
    )
    mask = torch.arange(2 * pictures.shape[-1] ** 2).reshape(2, *pictures.shape[-2:]) % 3
    trainer = make_trainer()
    trainer.fit(task, batches(image=pictures, mask=mask))
    trainer.save_checkpoint(tmp_path / "task.ckpt")
    loaded = SemanticSegmentationTask.load_from_checkpoint(tmp_path / "task.ckpt").eval()
    pruned: Any = find_pruned(loaded)
    assert embedding(pruned)[1] == (True if way == "matmul" else None)
    assert len(pruned.blocks) == KEPT
    other_way = {"conv": "matmul", "matmul": "conv"}[way]
    other = make_task(
        "SemanticSegmentationTask", arguments | {"backbone_patch_embedding": other_way}, **CE
    ).eval()
    other.load_state_dict(loaded.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(
            other(pictures).output, loaded(pictures).output, atol=1e-4, rtol=1e-4
        )


def test_lora_adapts_the_patch_embedding(build: Build, images: Tensor) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["patch_embed.proj", "qkv"], r=2)
    adapted = []
    for way in ("conv", "matmul"):
        pruned = build(f"simpler_{TINY}", keep_blocks=2, patch_embedding=way)
        model = peft.get_peft_model(pruned, config).eval()
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.manual_seed(len(name))
                nn.init.normal_(weight, std=0.1)
        with torch.no_grad():
            adapted += [model(images), model.merge_and_unload()(images)]
    for outputs in adapted[1:]:
        close(outputs, adapted[0])
