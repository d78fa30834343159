"""The product of patches is the convolution: values, gradients, and everything around them."""

from __future__ import annotations

import copy
import io
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from terratorch_simpler.backbones.patches import (
    PatchConv2d,
    PatchConv3d,
    is_slow,
    multiplied,
    multiply_patches,
    why_no_product,
)

PATCHES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "images": (nn.Conv2d(3, 8, 4, stride=4), (2, 3, 8, 12)),
    "images with a rest": (nn.Conv2d(3, 8, (4, 3), stride=(4, 3)), (2, 3, 11, 7)),
    "no bias": (nn.Conv2d(3, 8, 4, stride=4, bias=False), (1, 3, 8, 8)),
    "frames": (nn.Conv3d(6, 8, (1, 4, 4), stride=(1, 4, 4)), (2, 6, 3, 8, 8)),
    "pairs of frames with a rest": (nn.Conv3d(6, 8, (2, 4, 5), stride=(2, 4, 5)), (2, 6, 5, 9, 13)),
}
CASES = pytest.mark.parametrize(("layer", "shape"), PATCHES.values(), ids=PATCHES)


def multiplying(layer: Any, always: bool = True) -> Any:
    """The layer that multiplies, with the weights of a convolution."""
    kind = PatchConv3d if isinstance(layer, nn.Conv3d) else PatchConv2d
    made = kind(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        bias=layer.bias is not None,
    )
    made.load_state_dict(layer.state_dict(), strict=True)
    made.always = always
    return made.to(layer.weight.dtype)


def draw(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def gradients(layer: nn.Module, images: Tensor) -> list[Tensor]:
    images = images.detach().requires_grad_()
    weights = [images, *layer.parameters()]
    return list(torch.autograd.grad(layer(images).float().square().sum(), weights))


@CASES
def test_values_and_gradients_in_64_bits(layer: Any, shape: tuple[int, ...]) -> None:
    layer, images = copy.deepcopy(layer).double(), draw(shape).double()
    other = multiplying(layer)
    torch.testing.assert_close(other(images), layer(images))
    torch.testing.assert_close(gradients(other, images), gradients(layer, images))


@CASES
def test_values_are_those_of_the_convolution_to_rounding(
    layer: Any, shape: tuple[int, ...]
) -> None:
    images, other = draw(shape), multiplying(layer)
    embedded = other(images)
    assert embedded.is_contiguous()
    torch.testing.assert_close(embedded, layer(images))
    torch.testing.assert_close(gradients(other, images), gradients(layer, images))


@CASES
def test_bfloat16(layer: Any, shape: tuple[int, ...]) -> None:
    layer, images = copy.deepcopy(layer).bfloat16(), draw(shape).bfloat16()
    other = multiplying(layer)
    assert other(images).dtype == torch.bfloat16
    torch.testing.assert_close(other(images), layer(images))


@CASES
def test_autocast_gives_what_the_convolution_gives(layer: Any, shape: tuple[int, ...]) -> None:
    images, other = draw(shape), multiplying(layer)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = other(images), layer(images)
        slopes = gradients(other, images), gradients(layer, images)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)
    assert [slope.dtype for slope in slopes[0]] == [slope.dtype for slope in slopes[1]]
    torch.testing.assert_close(*slopes, atol=0.3, rtol=0.02)


@CASES
@pytest.mark.parametrize("always", [True, False])
def test_compile_and_export(layer: Any, shape: tuple[int, ...], always: bool) -> None:
    images, other = draw(shape), multiplying(layer, always)
    torch.compiler.reset()
    compiled: Any = torch.compile(other, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), other(images))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(images), other(images))
    program = torch.export.export(other, (images,))
    torch.testing.assert_close(program.module()(images), other(images))
    convolves = any("conv" in str(node.target) for node in program.graph.nodes)
    assert convolves != always


def test_a_batch_and_tiles_of_any_size_are_exported() -> None:
    layer: Any = PATCHES["images"][0]
    other = multiplying(layer)
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(other, (draw((2, 3, 8, 12)),), dynamic_shapes=(sizes,))
    images = draw((5, 3, 16, 20))
    torch.testing.assert_close(program.module()(images), layer(images))


@CASES
def test_names_copies_and_pickles(layer: Any, shape: tuple[int, ...]) -> None:
    images, other = draw(shape), multiplying(layer)
    assert other.state_dict().keys() == layer.state_dict().keys()
    layer.load_state_dict(other.state_dict(), strict=True)
    stream = io.BytesIO()
    torch.save(other, stream)
    stream.seek(0)
    copies = (
        copy.deepcopy(other),
        pickle.loads(pickle.dumps(other)),
        torch.load(stream, weights_only=False),
    )
    for copied in copies:
        assert type(copied) is type(other)
        assert copied.always
        assert torch.equal(copied(images), other(images))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 8, 8), "to have 3 channels"),
        ((2, 3, 2, 8), "Kernel size can't be greater"),
        ((3, 8), "Expected 3D .* or 4D"),
    ],
)
def test_what_the_convolution_refuses_is_refused_in_its_words(
    shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        multiplying(PATCHES["images"][0])(draw(shape))


def test_an_image_without_a_batch() -> None:
    layer: Any = PATCHES["images"][0]
    image = draw((3, 8, 8))
    assert torch.equal(multiplying(layer)(image), layer(image))


@pytest.mark.parametrize("always", [True, False])
def test_the_product_is_taken_always_or_where_it_is_slow(
    always: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[torch.dtype] = []

    def watch(images: Tensor, *weights: Any) -> Tensor:
        taken.append(images.dtype)
        return multiply_patches(images, *weights)

    monkeypatch.setattr("terratorch_simpler.backbones.patches.multiply_patches", watch)
    layer, images = multiplying(PATCHES["images"][0], always), draw((1, 3, 8, 8))
    layer(images)
    with torch.autocast("cpu", torch.bfloat16):
        layer(images)
    layer.bfloat16()(images.bfloat16())
    assert taken == [torch.float32] * (1 + always) + [torch.bfloat16]


@pytest.mark.parametrize(
    ("device", "dtype", "sides", "slow"),
    [
        ("cpu", torch.float32, 2, False),
        ("cpu", torch.bfloat16, 2, True),
        ("cpu", torch.float16, 3, True),
        ("cuda", torch.float32, 3, False),
        ("cuda", torch.bfloat16, 2, False),
        ("mps", torch.bfloat16, 3, False),
    ],
)
def test_which_convolutions_are_slow(
    device: str, dtype: torch.dtype, sides: int, slow: bool
) -> None:
    assert is_slow(device, dtype, sides) is slow


@pytest.mark.parametrize("known", [True, False])
def test_frames_in_16_bits_are_slow_on_some_builds_of_cuda(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terratorch_simpler.backbones.patches._CUDA_LEAVES_CUDNN", known)
    assert is_slow("cuda", torch.bfloat16, 3) is known
    assert is_slow("cuda", torch.float16, 3) is known
    assert not is_slow("cuda", torch.bfloat16, 2)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Conv2d(3, 8, 4, stride=4), None),
        (nn.Conv2d(3, 8, 4, stride=4, padding="valid"), None),
        (nn.Conv2d(3, 8, 7, stride=4), r"takes patches of \(7, 7\) in steps of \(4, 4\)"),
        (nn.Conv2d(3, 8, 1), "reads single pixels"),
        (nn.Conv2d(4, 8, 4, stride=4, groups=2), "has 2 groups"),
        (nn.Conv2d(3, 8, 4, stride=4, padding=1), r"pads images by \(1, 1\)"),
        (nn.Conv2d(3, 8, 4, stride=4, dilation=2), r"is dilated by \(2, 2\)"),
        (PatchConv2d(3, 8, 4, stride=4), "is a PatchConv2d"),
        (
            torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 4, stride=4)),
            "is a Parametrized",
        ),
    ],
)
def test_what_is_no_product(layer: Any, reason: str | None) -> None:
    found = why_no_product(layer)
    assert (found is None) == (reason is None)
    assert reason is None or re.match(reason, str(found))


def test_a_full_backbone_multiplies_within_a_pass_and_is_as_it_was() -> None:
    module: Any = nn.ModuleDict(
        {
            "embed": nn.Conv2d(3, 8, 4, stride=4),
            "overlaps": nn.Conv2d(3, 8, 4, stride=2),
            "blocks": nn.ModuleList([nn.Conv2d(8, 8, 2, stride=2)]),
        }
    )
    kinds = [type(layer) for layer in module.modules()]
    state, images = copy.deepcopy(module.state_dict()), draw((2, 3, 8, 12))
    before = module["embed"](images)
    with multiplied(module, "blocks"):
        assert type(module["embed"]) is PatchConv2d
        assert type(module["overlaps"]) is type(module["blocks"][0]) is nn.Conv2d
        assert torch.equal(module["embed"](images), before)
        with torch.autocast("cpu", torch.bfloat16):
            weight, bias = (state[f"embed.{name}"].bfloat16() for name in ("weight", "bias"))
            product = multiply_patches(images.bfloat16(), weight, bias)
            assert torch.equal(module["embed"](images), product)
    assert [type(layer) for layer in module.modules()] == kinds
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


@CASES
def test_a_device_without_numbers_and_autocast(layer: Any, shape: tuple[int, ...]) -> None:
    images = torch.empty(shape, device="meta")
    for always in (False, True):
        embedded = multiplying(layer, always).to("meta")(images)
        assert embedded.shape == layer(draw(shape)).shape
