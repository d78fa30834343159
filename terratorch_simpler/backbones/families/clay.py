"""Clay v1: patches embedded by the wavelengths of their bands, in TerraTorch's wrapper of timm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from terratorch_simpler.backbones.families.family import Arguments, Family, Images, check_size
from terratorch_simpler.backbones.families.stored import by_torch

if TYPE_CHECKING:
    from terratorch.registry.timm_registry import TimmBackboneWrapper

ENCODER = "model.encoder."
"""What names of an encoder's weights begin with in a file of Clay."""


def _embedder(module: nn.Module) -> Any:
    """What TerraTorch's wrapper binds, and which holds the settings."""
    forward: Any = module.forward
    return forward.__self__


def _as_map(module: Any, features: list[Tensor]) -> list[Tensor]:
    """The last output as a map [B, D, H, W], without its class token."""
    tokens = features[-1][:, 1:].transpose(1, 2)
    side = math.isqrt(tokens.shape[-1] // module.num_frames)
    return [tokens.reshape(len(tokens), -1, side, side)]


def _freeze(module: nn.Module) -> None:
    """Keep all weights as they are but the prompts, which are there to be trained."""
    for name, weight in module.named_parameters():
        if "vpt_prompt_embeddings" not in name:
            weight.requires_grad_(False)


class Clay(Family["TimmBackboneWrapper"]):
    """Backbones of ``clay_v1_*``, which TerraTorch registers with timm.

    A block is a pair of attention and feed-forward layers in a list, which itself is never called:
    their inputs are added to their outputs outside of it.
    """

    name = "Clay"
    class_path = "terratorch.registry.timm_registry.TimmBackboneWrapper"
    path = "clay_encoder.transformer.layers"
    per_block = ("vpt_prompt_embeddings", "vpt_dropout_layers")
    bound = ("forward", "prepare_features_for_image_model", "freeze")
    methods: ClassVar = {"prepare_features_for_image_model": _as_map, "freeze": _freeze}
    checkpoints: ClassVar = {"pretrained_cfg_overlay": False, "ckpt_path": True}
    embeds_otherwise = "its weights are made of the wavelengths in every pass"
    layout = f"give them names that begin with {ENCODER} below the key state_dict"

    def owns(self, source: str, name: str) -> bool:
        """Names of timm's source that begin with ``clay_v1_``."""
        return source == "timm" and name.startswith("clay_v1_")

    def knows(self, module: nn.Module) -> bool:
        """A wrapper of timm's around Clay's encoder."""
        return super().knows(module) and hasattr(module, "clay_encoder")

    def known_arguments(self) -> set[str]:
        """Arguments of Clay's class, which takes any, and of timm's builder."""
        from inspect import signature

        from terratorch.models.backbones.clay_v1.embedder import Embedder
        from timm.models import create_model
        from timm.models._builder import build_model_with_cfg

        builders = (Embedder.__init__, create_model, build_model_with_cfg)
        known = {name for builder in builders for name in signature(builder).parameters}
        return known - {"self", "kwargs"}

    def stored(self, path: Path) -> Any:
        """The encoder's weights below ``state_dict``, under the names that they get."""
        content = by_torch(path)
        weights = content.get("state_dict") if isinstance(content, Mapping) else None
        if not isinstance(weights, Mapping):
            return {}
        named = {name: value for name, value in weights.items() if name.startswith(ENCODER)}
        return {name.removeprefix(ENCODER): value for name, value in named.items()}

    def special_tokens(self, module: TimmBackboneWrapper) -> int:
        """The class token, and deep prompts (VPT), which stand behind it while a block runs."""
        transformer: Any = module.get_submodule("clay_encoder.transformer")
        return 1 + (transformer.vpt_n_tokens if transformer.vpt else 0)

    def called(self, block: nn.Module) -> Sequence[nn.Module]:
        """Attention, then the feed-forward layers."""
        return list(block.children())

    def leaving(self, given: Any, output: Any) -> Any:
        """What the feed-forward layers were given is added to what they gave."""
        return given + output

    def bands(self, module: TimmBackboneWrapper) -> int:
        """One for each wavelength."""
        datacuber: Any = module.datacuber
        return len(datacuber.bands)

    def patch(self, module: TimmBackboneWrapper) -> int:
        """As its encoder says."""
        encoder: Any = module.clay_encoder
        return int(encoder.patch_size)

    def check(
        self, module: TimmBackboneWrapper, image: Images, inputs: Arguments, arguments: Arguments
    ) -> None:
        """Images must have the size of its position embedding."""
        del inputs, arguments
        assert isinstance(image, Tensor)
        encoder: Any = module.clay_encoder
        check_size(image, encoder.img_size, encoder.img_size)

    @staticmethod
    def features(module: TimmBackboneWrapper, *args: Any, **kwargs: Any) -> Any:
        """What TerraTorch binds to the full backbone, with an output for every block."""
        datacuber: Any = module.datacuber
        encoder: Any = module.clay_encoder
        return encoder(datacuber(*args, **kwargs))

    def settings(self, module: TimmBackboneWrapper) -> dict[str, Any]:
        """How many frames a tile has."""
        return {"num_frames": _embedder(module).num_frames}

    def outputs(self, module: TimmBackboneWrapper) -> list[int]:
        """Its ``out_indices``."""
        return [int(i) for i in _embedder(module).out_indices]

    def default_outputs(self, depth: int) -> list[int]:
        """Those of every block."""
        return list(range(depth))
