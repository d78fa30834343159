"""What has to be known of a backbone family to measure and cut it: the columns of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Statistics = tuple[list[float], list[float]]
Bands = int | Mapping[str, int] | None
Arguments = Mapping[str, Any]


def own_forward(backbone: Any, *args: Any, **kwargs: Any) -> Any:
    """Run the ``forward`` of the class that a pruned backbone was made from."""
    return backbone.full_class.forward(backbone, *args, **kwargs)


def first_convolution(module: Any) -> int | None:
    """Bands that a backbone reads: the channels of its first convolution, if it has one."""
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            return int(layer.in_channels)
    return None


def patch_of_embedding(module: Any) -> int | None:
    """Side of a patch in pixels, from the ``patch_embed`` of a backbone or of what it wraps."""
    for layer in module.modules():
        size = getattr(getattr(layer, "patch_embed", None), "patch_size", None)
        if size is not None:
            return int(size[-1] if isinstance(size, Sequence) else size)
    return None


def _no_check(module: Any, image: Any, inputs: Arguments, arguments: Arguments) -> None:
    del module, image, inputs, arguments


def _no_statistics(name: str, arguments: Arguments, bands: Sequence[str]) -> Statistics | None:
    del name, arguments, bands
    return None


def _bands_argument(bands: list[str], arguments: Arguments) -> dict[str, Any]:
    del arguments
    return {"bands": bands}


@dataclass(frozen=True)
class Family:
    """How to read and cut the backbones of one family.

    A backbone is a module that TerraTorch's registry builds, or that a user gives.

    Attributes:
        name: Name shown to users.
        class_path: Class of the backbones.
        owns: Whether a backbone belongs to the family, as far as its source in the registry and
            its name there tell.
        blocks: Dotted name of the list of blocks, or a function that finds it and raises
            ``ValueError`` with the reason where the depth of this one cannot be cut.
        features: Runs a pruned backbone and gives one output for each kept block.
        settings: Attributes that ``features`` needs, read from the full backbone.
        indices: Attribute, of the backbone or of what holds its blocks, that says which blocks'
            outputs ``features`` returns.
        outputs: Indices of the blocks whose outputs the full backbone returns; None for all.
        default_outputs: What ``outputs`` gives for a depth if nothing was asked for; None for all.
        special_tokens: Tokens before the patch tokens while a block runs.
        patch_tokens: Which tokens of a block are patches, where they do not simply follow the
            special ones: from the backbone, the image and the number of tokens to indices.
        bands: Bands that the backbone reads, by modality where it takes several; None if unknown.
        patch: Side of a patch in pixels; None if unknown.
        check: Refuses images, or other inputs, that the backbone cannot read or would read as what
            they are not; takes the backbone, both, and the builder's arguments.
        generates: Whether it draws random numbers when it runs, so that tiles are measured one by
            one, each with its own seed: the plan must not depend on batches.
        inputs: Keys of a batch, beside the image, that the backbone takes.
        per_block: Attributes beside the list of blocks that hold one entry a block.
        bound: Attributes that the registry binds to the full backbone, and that a cut must drop.
        first_only: Reason why only the first blocks can be kept; None where any can.
        raw_outputs: Whether the last output is that of a block as it is, without a final norm.
        arguments: Names that the registry's builder takes, where it swallows any other silently.
        weights: Argument that names a file of weights, or holds it as ``file``.
        weights_always: Whether the file is read without ``pretrained`` as well.
        read_bands: Names of the bands in the builder's arguments.
        write_bands: The builder's arguments for bands, given the other arguments.
        refused_arguments: Arguments that the depth cannot be cut with, and why.
        example_arguments: Arguments without which the builder gives nothing to look at.
        statistics: Means and standard deviations that the weights of a registry name were
            pre-trained with, for the bands given; None if the family publishes none.
    """

    name: str
    class_path: str
    owns: Callable[[str, str], bool]
    blocks: str | Callable[[Any], str]
    features: Callable[..., Any] = own_forward
    settings: Callable[[Any], dict[str, Any]] = lambda _module: {}
    indices: str | None = None
    outputs: Callable[[Any], list[int] | None] = lambda _module: None
    default_outputs: Callable[[int], list[int] | None] = lambda _depth: None
    special_tokens: Callable[[Any], int] = lambda _module: 0
    patch_tokens: Callable[[Any, Any, int], list[int]] | None = None
    bands: Callable[[Any], Bands] = first_convolution
    patch: Callable[[Any], int | None] = patch_of_embedding
    check: Callable[[Any, Any, Arguments, Arguments], None] = _no_check
    generates: bool = False
    inputs: tuple[str, ...] = ()
    per_block: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()
    first_only: Callable[[Any], str | None] = lambda _module: None
    raw_outputs: Callable[[Any], bool] = lambda _module: False
    arguments: Callable[[], set[str]] | None = None
    weights: str = "ckpt_path"
    weights_always: bool = False
    read_bands: Callable[[Arguments], Any] = lambda arguments: arguments.get("bands")
    write_bands: Callable[[list[str], Arguments], dict[str, Any]] = _bands_argument
    refused_arguments: Mapping[str, str] = field(default_factory=dict)
    example_arguments: Arguments = field(default_factory=dict)
    statistics: Callable[[str, Arguments, Sequence[str]], Statistics | None] = _no_statistics
