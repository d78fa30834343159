"""Vision transformers of torchgeo and of DINOv3, each in a wrapper of TerraTorch's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from terratorch_simpler.backbones.families.family import (
    Arguments,
    Family,
    Images,
    Module,
    check_size,
)
from terratorch_simpler.backbones.families.stored import unwrapped

if TYPE_CHECKING:
    from terratorch.models.backbones.dofa_vit import DOFAEncoderWrapper
    from terratorch.models.backbones.torchgeo_vit import ViTEncoderWrapper


class TorchgeoWrapper(Family[Module]):
    """What the wrappers around torchgeo's vision transformers share."""

    checkpoints: ClassVar = {"ckpt_data": False}
    example_arguments: ClassVar = {"model_bands": ["RED", "GREEN", "BLUE"]}

    def read_bands(self, arguments: Arguments) -> Any:
        """Its ``model_bands``."""
        return arguments.get("model_bands")

    def write_bands(self, bands: list[str], arguments: Arguments) -> dict[str, Any]:
        """As ``model_bands``."""
        del arguments
        return {"model_bands": bands}

    def settings(self, module: Module) -> dict[str, Any]:
        """Without the entry of torchvision that says where its weights came from.

        It only informs, and cannot be unpickled.
        """
        del module
        return {"weights": None}

    def raw_outputs(self, module: Module) -> bool:
        """No norm stands behind the last block."""
        del module
        return True


class Dofa(TorchgeoWrapper["DOFAEncoderWrapper"]):
    """Backbones of ``dofa_*``."""

    name = "DOFA"
    class_path = "terratorch.models.backbones.dofa_vit.DOFAEncoderWrapper"
    path = "dofa_model.blocks"
    indices = "out_indices"
    embeds_otherwise = "its weights are made of the wavelengths in every pass"

    def owns(self, source: str, name: str) -> bool:
        """Names that begin with ``dofa_``."""
        return source == "terratorch" and name.startswith("dofa_")

    def outputs(self, module: DOFAEncoderWrapper) -> list[int]:
        """In the order of its blocks, each once; DOFA knows no negative index but -1."""
        depth = len(module.dofa_model.blocks)
        chosen = {depth - 1 if i == -1 else int(i) for i in module.out_indices}
        return sorted(i for i in chosen if 0 <= i < depth)

    def default_outputs(self, depth: int) -> list[int]:
        """The last block's."""
        return [depth - 1]

    def special_tokens(self, module: DOFAEncoderWrapper) -> int:
        """One class token."""
        del module
        return 1

    def bands(self, module: DOFAEncoderWrapper) -> int:
        """One for each wavelength."""
        return len(module.wavelengths)

    def check(
        self, module: DOFAEncoderWrapper, image: Images, inputs: Arguments, arguments: Arguments
    ) -> None:
        """Images must have the size of its position embedding."""
        del inputs, arguments
        assert isinstance(image, Tensor)
        check_size(image, module.dofa_model.img_size, module.dofa_model.img_size)


class Ssl4eo(TorchgeoWrapper["ViTEncoderWrapper"]):
    """Vision transformers of ``ssl4eo*_vit_*``."""

    name = "SSL4EO ViT"
    class_path = "terratorch.models.backbones.torchgeo_vit.ViTEncoderWrapper"
    path = "vit_model.blocks"

    def owns(self, source: str, name: str) -> bool:
        """Names of SSL4EO with ``_vit_`` in them."""
        return source == "terratorch" and name.startswith("ssl4eo") and "_vit_" in name

    def stored(self, path: Path) -> Any:
        """Under the first key that ends in ``state_dict``, if there is one."""
        return unwrapped(path)

    def special_tokens(self, module: ViTEncoderWrapper) -> int:
        """As timm says."""
        return int(module.vit_model.num_prefix_tokens)

    def check(
        self, module: ViTEncoderWrapper, image: Images, inputs: Arguments, arguments: Arguments
    ) -> None:
        """Images must have the size of its position embedding."""
        del inputs, arguments
        assert isinstance(image, Tensor)
        size = module.vit_model.patch_embed.img_size[0]
        check_size(image, size, size)


class DinoV3(Family[nn.Module]):
    """TerraTorch's own ``dinov3_vit*``."""

    name = "DINOv3"
    class_path = "terratorch.models.backbones.dinov3.dinov3_wrapper.DinoV3Wrapper"
    path = "dinov3.blocks"
    indices = "output_indexes"
    checkpoints: ClassVar = {"ckpt_path": True}

    def owns(self, source: str, name: str) -> bool:
        """Names that begin with ``dinov3_vit``."""
        return source == "terratorch" and name.startswith("dinov3_vit")

    def stored(self, path: Path) -> Any:
        """Only the code that DINOv3 fetches knows."""
        del path

    def special_tokens(self, module: nn.Module) -> int:
        """One class token, then the storage tokens that DINOv3 calls registers."""
        return 1 + int(getattr(module.get_submodule("dinov3"), "n_storage_tokens", 0))

    def read_bands(self, arguments: Arguments) -> Any:
        """It reads red, green and blue, and its arguments name no bands."""
        del arguments

    def write_bands(self, bands: list[str], arguments: Arguments) -> dict[str, Any]:
        """Nothing: it takes no bands."""
        del bands, arguments
        return {}
