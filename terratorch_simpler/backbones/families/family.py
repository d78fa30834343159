"""The base of all backbone families: what has to be known of a backbone to measure and prune it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from terratorch_simpler.backbones.families.stored import by_torch
from terratorch_simpler.backbones.outputs import Form

Module = TypeVar("Module", bound=nn.Module, contravariant=True)

Images = Tensor | Mapping[str, Tensor]
"""A batch of images as a backbone takes it: [B, C, H, W] or [B, C, T, H, W], or by modality."""

Statistics = tuple[list[float], list[float]]
"""Mean and standard deviation of each band."""


@dataclass(frozen=True)
class Origin:
    """Where pre-trained weights come from.

    Attributes:
        repository: Their repository on the hub; None if unknown.
        licence: Their licence, as the hub writes it; None if unknown.
    """

    repository: str | None
    licence: str | None


Bands = int | Mapping[str, int] | None
Arguments = Mapping[str, Any]


class Family(Generic[Module]):
    """How to read and prune the backbones of one family.

    A backbone is a module that TerraTorch's registry builds, or that a user gives. A family is a
    subclass that overrides what differs; it holds no state, and one instance of it stands in
    :data:`~terratorch_simpler.backbones.families.FAMILIES`.

    Attributes:
        name: Name shown to users.
        class_path: Class of the backbones, by its path, so that nothing is imported for it.
        path: Dotted name of the list of blocks, where it is the same for the whole family.
        indices: Attribute, of the backbone or of what holds its blocks, that says which blocks'
            outputs :meth:`features` returns.
        generates: Whether it draws random numbers when it runs, so that tiles are measured one by
            one, each with its own seed: the plan must not depend on batches.
        inputs: Keys of a batch, beside the image, that the backbone takes.
        per_block: Attributes beside the list of blocks that hold one entry a block.
        bound: Attributes that the registry binds to the full backbone, and that a pruned one drops.
        methods: Methods of a pruned backbone in place of those.
        checkpoints: Arguments that name a file of weights, or hold it as ``file``, and whether
            it is read without ``pretrained`` as well. The last that is given counts.
        layout: What a file of weights has to look like, where the builder wants more than names.
        refused_arguments: Arguments with which the backbone cannot be pruned, and why.
        example_arguments: Arguments without which the builder gives nothing to measure.
        repeats_outputs: Whether ``out_indices`` of the builder can name a block twice.
        embeds_otherwise: How it embeds patches, where this is no convolution with weights of its
            own; None where it can be one.
    """

    name: ClassVar[str]
    class_path: ClassVar[str]
    path: ClassVar[str | None] = None
    indices: ClassVar[str | None] = None
    generates: ClassVar[bool] = False
    inputs: ClassVar[tuple[str, ...]] = ()
    per_block: ClassVar[tuple[str, ...]] = ()
    bound: ClassVar[tuple[str, ...]] = ()
    methods: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    checkpoints: ClassVar[Mapping[str, bool]] = {"ckpt_path": False}
    layout: ClassVar[str | None] = None
    refused_arguments: ClassVar[Mapping[str, str]] = {}
    example_arguments: ClassVar[Arguments] = {}
    repeats_outputs: ClassVar[bool] = False
    embeds_otherwise: ClassVar[str | None] = None

    def knows(self, module: nn.Module) -> bool:
        """Whether a backbone is of the family: of its class, or of one that inherits from it."""
        paths = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__)
        return self.class_path in paths

    # Building by name

    def owns(self, source: str, name: str) -> bool:
        """Whether a name belongs to the family, as far as it and its source in the registry tell.

        Args:
            source: Prefix of the source: ``terratorch`` or ``timm``.
            name: Name of the backbone there.
        """
        del source, name
        return False

    def build(self, builder: Callable[..., nn.Module], arguments: Arguments) -> nn.Module:
        """Build the full backbone with all its blocks.

        Args:
            builder: The registry's builder.
            arguments: What it was asked to be built with.
        """
        return builder(**arguments)

    def builds_all(self, arguments: Arguments) -> bool:
        """Whether the registry itself, given these arguments, builds all blocks."""
        del arguments
        return True

    def shallow(self, depth: int) -> dict[str, Any] | None:
        """Arguments with which the builder makes the backbone of fewer blocks by itself.

        Args:
            depth: Number of its first blocks, each of which is to give an output.

        Returns:
            The arguments; None where it builds none but the full depth.
        """
        del depth
        return None

    def known_arguments(self) -> set[str] | None:
        """Names that the builder takes, where it swallows any other; None where it refuses them."""
        return None

    def stored(self, path: Path) -> Any:
        """What the builder finds in a file of weights, by name; None where only it can tell.

        Raises:
            Exception: As the builder, if it cannot read the file.
        """
        return by_torch(path)

    def read_bands(self, arguments: Arguments) -> Any:
        """Names of the bands in the builder's arguments."""
        return arguments.get("bands")

    def write_bands(self, bands: list[str], arguments: Arguments) -> dict[str, Any]:
        """The builder's arguments for bands, beside the other arguments.

        Raises:
            ValueError: If the others do not say enough to know which bands are meant.
        """
        del arguments
        return {"bands": bands}

    def statistics(
        self, name: str, arguments: Arguments, bands: Sequence[str]
    ) -> Statistics | None:
        """Statistics of the bands that the weights of a registry name were pre-trained with.

        Returns:
            Means and standard deviations; None if the family publishes none.

        Raises:
            ValueError: If it publishes them, but not for these bands.
        """
        del name, arguments, bands
        return None

    def origin(self, name: str) -> Origin | None:
        """Where the pre-trained weights of a registry name come from; None if unknown."""
        del name
        return None

    # Its layers

    def blocks(self, module: Module) -> str:
        """Dotted name of the list of blocks.

        Raises:
            ValueError: If the depth of this backbone cannot be pruned, with the reason.
        """
        del module
        assert self.path is not None
        return self.path

    def called(self, block: nn.Module) -> Sequence[nn.Module]:
        """The modules of a block that are run, in order: by default the block itself."""
        return [block]

    def leaving(self, given: Any, output: Any) -> Any:
        """The tokens that leave a block.

        Args:
            given: What the last module of :meth:`called` was given.
            output: What it gave.
        """
        del given
        return output

    def special_tokens(self, module: Module) -> int:
        """Number of tokens ahead of the patch tokens while a block runs."""
        del module
        return 0

    def patch_tokens(self, module: Module, image: Images, count: int) -> Sequence[int]:
        """Indices of the patch tokens among all tokens of a block.

        Args:
            module: The backbone.
            image: What it was given to read.
            count: Number of tokens.
        """
        del image
        return range(self.special_tokens(module), count)

    def first_only(self, module: Module) -> str | None:
        """Reason why only the first blocks can be kept; None where any can."""
        del module
        return None

    # Its images

    def bands(self, module: Module) -> Bands:
        """Number of bands that the backbone reads, by modality where there are several."""
        return first_convolution(module)

    def patch(self, module: Module) -> int | None:
        """Side of a patch in pixels; None if unknown."""
        return patch_of_embedding(module)

    def check(self, module: Module, image: Images, inputs: Arguments, arguments: Arguments) -> None:
        """Refuse images, or other inputs, that the backbone cannot read or would misread.

        Args:
            module: The backbone.
            image: A batch of images, or of images by modality.
            inputs: The other inputs of the batch, by key.
            arguments: What the backbone was built with.

        Raises:
            ValueError: With a reason that follows the backbone's name.
        """
        del module, image, inputs, arguments

    def example_image(self, module: Module, size: int) -> Images:
        """An image batch of two as the backbone takes it, its values not set.

        Args:
            module: The backbone.
            size: Height and width in pixels.
        """
        bands = self.bands(module)
        if isinstance(bands, Mapping):
            return {name: torch.empty(2, count, size, size) for name, count in bands.items()}
        frames = int(getattr(module, "num_frames", 1))
        shape = (2, bands or 3, frames, size, size) if frames > 1 else (2, bands or 3, size, size)
        return torch.empty(shape)

    def example_inputs(self, image: Images) -> dict[str, Any]:
        """Values for :attr:`inputs` that go with a batch of images."""
        del image
        return {}

    # Its outputs

    @staticmethod
    def features(module: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a pruned backbone and give one output for each kept block.

        By default this is ``forward`` of the class that the pruned backbone was made from.
        """
        return module.full_class.forward(module, *args, **kwargs)

    def settings(self, module: Module) -> dict[str, Any]:
        """Attributes that a pruned backbone gets beside those of the full one."""
        del module
        return {}

    def outputs(self, module: Module) -> list[int] | None:
        """Indices of the blocks whose outputs the full backbone returns; None for all."""
        del module
        return None

    def default_outputs(self, depth: int) -> list[int] | None:
        """What :meth:`outputs` gives for a depth if nothing was asked for; None for all."""
        del depth
        return None

    def form(self, module: Module, outputs: int) -> Form | None:
        """What the full backbone returns; None where only a run of it would tell.

        Args:
            module: The full backbone.
            outputs: How many outputs it has.

        Raises:
            ValueError: If which block each of its outputs comes from cannot be told.
        """
        del module, outputs
        return "by block"

    def raw_outputs(self, module: Module) -> bool:
        """Whether the last output is that of a block as it is, without a final norm."""
        del module
        return False


def first_convolution(module: nn.Module) -> int | None:
    """Bands that a backbone reads: the channels of its first convolution, if it has one."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            return int(layer.in_channels)
    return None


def patch_of_embedding(module: nn.Module) -> int | None:
    """Side of a patch in pixels, from the ``patch_embed`` of a backbone or of what it wraps."""
    for layer in module.modules():
        size = getattr(getattr(layer, "patch_embed", None), "patch_size", None)
        if size is not None:
            return int(size[-1] if isinstance(size, Sequence) else size)
    return None


def check_size(image: Tensor, height: int, width: int) -> None:
    """Refuse images of another size than a position embedding was made for.

    Raises:
        ValueError: With a reason that follows the backbone's name.
    """
    if tuple(image.shape[-2:]) != (height, width):
        raise ValueError(
            f"has a position embedding for {height} x {width} px, the tiles have "
            f"{image.shape[-2]} x {image.shape[-1]}: change their size, or build it with "
            f"img_size={image.shape[-1]}"
        )
