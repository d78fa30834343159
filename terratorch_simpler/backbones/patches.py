"""The patch embedding as one matrix product, where torch runs its convolution slowly.

A convolution whose kernel is its stride reads every pixel once: it is the product of the patches
and the weight. The layers here have the weights of the convolution that they stand for, under the
same names, and are one to everybody else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

PatchEmbedding = Literal["auto", "conv", "matmul"]

_SIXTEEN_BITS = (torch.bfloat16, torch.float16)
_CUDA_LEAVES_CUDNN = torch.version.cuda is not None and torch.__version__ >= "2.9"
"""Builds that may run a 3-D convolution in 16 bits without cuDNN (pytorch#166643, #174051)."""


def check_choice(choice: str) -> None:
    """Refuse a word that names no way to embed patches.

    Raises:
        ValueError: With the three that there are.
    """
    if choice not in get_args(PatchEmbedding):
        raise ValueError(
            f"patch_embedding must be one of {', '.join(get_args(PatchEmbedding))}, got {choice!r}"
        )


def is_slow(device: str, dtype: torch.dtype, sides: int) -> bool:
    """Whether the convolution of patches is known to be slower than the product.

    By device, build and number format alone, never by a measurement: two runs of one seed must not
    round differently because a machine was busy.

    Args:
        device: Type of the device.
        dtype: What is computed in.
        sides: Dimensions of a patch: 2, or 3 with frames.
    """
    if dtype not in _SIXTEEN_BITS:
        return False
    return device == "cpu" or (device == "cuda" and sides == 3 and _CUDA_LEAVES_CUDNN)


class _Patches(nn.modules.conv._ConvNd):
    """What the layers of images and of frames share.

    Attributes:
        always: Take the product wherever it runs, and not only where the convolution is slow.
    """

    always: bool = False

    def forward(self, input: Tensor) -> Tensor:
        """Embed the patches; what the convolution would refuse is left to it."""
        if self._is_product(input):
            return multiply_patches(input, self.weight, self.bias)
        embedded: Tensor = super().forward(input)
        return embedded

    def _is_product(self, images: Tensor) -> bool:
        if images.ndim != self.weight.ndim or images.shape[1] != self.in_channels:
            return False
        sides = zip(images.shape[2:], self.kernel_size, strict=True)
        if any(side < size for side, size in sides):
            return False
        device = images.device.type
        return self.always or is_slow(device, _computed_in(images), len(self.kernel_size))


class PatchConv2d(_Patches, nn.Conv2d):
    """A convolution [B, C, H, W] -> [B, E, h, w] whose kernel is its stride."""


class PatchConv3d(_Patches, nn.Conv3d):
    """A convolution [B, C, T, H, W] -> [B, E, t, h, w] whose kernel is its stride."""


def product_class(layer: nn.Module) -> type[_Patches]:
    """The layer that stands for a convolution of patches."""
    return PatchConv3d if isinstance(layer, nn.Conv3d) else PatchConv2d


def multiply_patches(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of patches that do not overlap, as one matrix product.

    Args:
        images: [B, C, H, W] or [B, C, T, H, W]; what is left beside whole patches is not read.
        weight: [E, C, kh, kw] or [E, C, kt, kh, kw].
        bias: [E], or None.

    Returns:
        [B, E, h, w] or [B, E, t, h, w], laid out as the convolution lays it out.
    """
    sizes = weight.shape[2:]
    grid = [side // size for side, size in zip(images.shape[2:], sizes, strict=True)]
    for axis, (count, size) in enumerate(zip(grid, sizes, strict=True), 2):
        images = images.narrow(axis, 0, count * size)
    # [B, C, h, kh, w, kw] -> [B, h, w, C, kh, kw], and so with frames.
    split = [part for pair in zip(grid, sizes, strict=True) for part in pair]
    images = images.reshape(*images.shape[:2], *split)
    places = [2 + 2 * axis for axis in range(len(sizes))]
    inside = [place + 1 for place in places]
    patches = images.permute(0, *places, 1, *inside).reshape(
        images.shape[0], prod(grid), prod(weight.shape[1:])
    )
    tokens = nn.functional.linear(patches, weight.flatten(1), bias)
    return tokens.transpose(1, 2).reshape(images.shape[0], weight.shape[0], *grid).contiguous()


@contextlib.contextmanager
def multiplied(module: nn.Module, blocks: str) -> Iterator[None]:
    """Within it, a full backbone multiplies its patches where the convolution is known to be slow.

    Args:
        module: The backbone, which is as it was afterwards.
        blocks: Dotted name of its list of blocks, whose layers are left alone.
    """
    layers: list[tuple[nn.Module, type[nn.Module]]] = [
        (layer, type(layer))
        for _, layer in convolutions(module, blocks)
        if why_no_product(layer) is None
    ]
    for layer, _ in layers:
        layer.__class__ = product_class(layer)
    try:
        yield
    finally:
        for layer, kind in layers:
            layer.__class__ = kind


def convolutions(module: nn.Module, blocks: str) -> Iterator[tuple[str, nn.Conv2d | nn.Conv3d]]:
    """Convolutions outside the blocks of a backbone, by their dotted names."""
    for place, layer in module.named_modules():
        inside = f"{place}.".startswith(f"{blocks}.")
        if not inside and isinstance(layer, nn.Conv2d | nn.Conv3d):
            yield place, layer


def why_no_product(layer: nn.Conv2d | nn.Conv3d) -> str | None:
    """Reason why a convolution is no single matrix product of patches; None if it is one."""
    # Exactly these: a subclass, as a parametrised one is, computes something else.
    if type(layer) not in (nn.Conv2d, nn.Conv3d):
        return f"is a {type(layer).__name__}"
    if layer.kernel_size != layer.stride:
        return f"takes patches of {layer.kernel_size} in steps of {layer.stride}"
    if prod(layer.kernel_size) == 1:
        return "reads single pixels"
    if layer.groups != 1:
        return f"has {layer.groups} groups of channels"
    padding = [0] if layer.padding == "valid" else layer.padding
    if padding == "same" or any(padding):
        return f"pads images by {layer.padding}"
    if prod(layer.dilation) != 1:
        return f"is dilated by {layer.dilation}"
    return None


def _computed_in(images: Tensor) -> torch.dtype:
    device = images.device.type
    # Not every device knows autocast, as the one without numbers does not.
    known = torch.amp.is_autocast_available(device)
    if known and torch.is_autocast_enabled(device) and images.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return images.dtype
