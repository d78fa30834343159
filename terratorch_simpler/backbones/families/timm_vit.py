"""Vision transformers of timm, in the wrapper that TerraTorch puts around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from terratorch_simpler.backbones.families.family import (
    Arguments,
    Family,
    Images,
    Origin,
    check_size,
    first_convolution,
)
from terratorch_simpler.backbones.families.structure import check_tokens
from terratorch_simpler.backbones.families.tracing import image_size

if TYPE_CHECKING:
    from terratorch.registry.timm_registry import TimmBackboneWrapper


class TimmViT(Family["TimmBackboneWrapper"]):
    """Backbones of the source ``timm``.

    timm leaves out the blocks after the last of ``out_indices``: the full backbone is built with
    all of them, and the indices are kept beside it.
    """

    name = "timm ViT"
    class_path = "terratorch.registry.timm_registry.TimmBackboneWrapper"
    bound = ("forward", "prepare_features_for_image_model")
    checkpoints: ClassVar = {"pretrained_cfg_overlay": False, "checkpoint_path": True}

    def owns(self, source: str, name: str) -> bool:
        """All names of the source."""
        del name
        return source == "timm"

    def build(self, builder: Callable[..., Any], arguments: Arguments) -> nn.Module:
        """Build it with all blocks; ``out_indices`` are as timm takes them."""
        from timm.models._features import feature_take_indices

        arguments = dict(arguments)
        chosen = arguments.pop("out_indices", None)
        module: Any = _built(builder, arguments)
        if isinstance(chosen, int):
            # The last blocks of the full depth.
            chosen, _ = feature_take_indices(len(_getter(module).feature_info.info), chosen)
        if chosen is not None:
            module.out_indices = [int(i) for i in chosen]
        built: nn.Module = module
        return built

    def builds_all(self, arguments: Arguments) -> bool:
        """Where no ``out_indices`` are given."""
        return not arguments.get("out_indices")

    def shallow(self, depth: int) -> dict[str, Any]:
        """Timm hands ``depth`` on to its class, and gives the outputs that are named."""
        return {"depth": depth, "out_indices": list(range(depth))}

    def stored(self, path: Path) -> Any:
        """As timm reads it, without its values where that is quicker; numpy's are up to a class."""
        from timm.models import load_state_dict

        if path.suffix in (".npy", ".npz"):
            return None
        device = "cpu" if path.suffix == ".safetensors" else "meta"
        return load_state_dict(str(path), device=device)

    def read_bands(self, arguments: Arguments) -> Any:
        """Its arguments say how many bands it reads, and not which."""
        del arguments

    def write_bands(self, bands: list[str], arguments: Arguments) -> dict[str, Any]:
        """Their number, as ``in_chans``."""
        del arguments
        return {"in_chans": len(bands)}

    def blocks(self, module: TimmBackboneWrapper) -> str:
        """Where timm's own list of features says that the blocks are."""
        info = _getter(module).feature_info.info
        channels = list(dict.fromkeys(stage["num_chs"] for stage in info))
        if len(channels) > 1:
            raise ValueError(
                f"it is hierarchical or convolutional: its {len(info)} stages are "
                f"{', '.join(map(str, channels))} channels wide"
            )
        path, _, last = info[-1]["module"].rpartition(".")
        in_order = [stage["module"] for stage in info] == [f"{path}.{i}" for i in range(len(info))]
        if not in_order or not hasattr(module, "model"):
            raise ValueError(f"its {len(info)} outputs are not those of one list of blocks")
        # Some classifiers name their encoder's blocks without the encoder.
        places = [f"model.{path}", f"model.encoder.{path}"]
        layers = dict(module.named_modules())
        path = next(place for place in places if place in layers)
        if len([*module.get_submodule(path).children()]) != len(info):
            raise ValueError(
                f"it was built without the blocks after the last of its out_indices ({last}): "
                "build it with all of them, without out_indices"
            )
        size = image_size(module)
        check_tokens(module, path, (first_convolution(module) or 3, size, size))
        return path

    def origin(self, name: str) -> Origin | None:
        """As timm says."""
        from timm.models import get_pretrained_cfg

        found = get_pretrained_cfg(name.removeprefix("timm_"), allow_unregistered=True)
        return None if found is None else Origin(found.hf_hub_id, found.license)

    def special_tokens(self, module: TimmBackboneWrapper) -> int:
        """As timm says."""
        return int(getattr(module.model, "num_prefix_tokens", 0))

    def first_only(self, module: TimmBackboneWrapper) -> str | None:
        """A mixed rotary embedding belongs to the blocks in their order."""
        if getattr(module.model, "rope_mixed", False):
            return "its rotary position embedding has an entry for each block"
        return None

    def check(
        self, module: TimmBackboneWrapper, image: Images, inputs: Arguments, arguments: Arguments
    ) -> None:
        """Images must have the size of a position embedding that is fixed."""
        del inputs, arguments
        assert isinstance(image, Tensor)
        embedding = getattr(module.model, "patch_embed", None)
        size = getattr(embedding, "img_size", None)
        if size is not None and getattr(embedding, "strict_img_size", False):
            check_size(image, *size)

    @staticmethod
    def features(module: TimmBackboneWrapper, *args: Any, **kwargs: Any) -> Any:
        """What timm's feature getter runs, which is bound to the full backbone."""
        model: Any = module.model
        return model.forward_intermediates(
            *args,
            **kwargs,
            norm=module.norm_features,
            output_fmt=module.output_format,
            intermediates_only=True,
        )

    def settings(self, module: TimmBackboneWrapper) -> dict[str, Any]:
        """How timm's feature getter was set."""
        getter = _getter(module)
        return {"norm_features": getter.norm, "output_format": str(getter.output_fmt.value)}

    def outputs(self, module: TimmBackboneWrapper) -> list[int]:
        """The ``out_indices`` asked for, or timm's own."""
        return [int(i) for i in getattr(module, "out_indices", _getter(module).out_indices)]

    def default_outputs(self, depth: int) -> list[int]:
        """As timm: the last three blocks."""
        return list(range(depth))[-3:]

    def raw_outputs(self, module: TimmBackboneWrapper) -> bool:
        """Unless the feature getter puts the final norm on them."""
        return not _getter(module).norm


def _built(builder: Callable[..., Any], arguments: Arguments) -> Any:
    try:
        return builder(**arguments)
    except RuntimeError as error:
        if not arguments.get("checkpoint_path") or "loading state_dict" not in str(error):
            raise
        raise RuntimeError(
            "it does not fit a backbone without its final norm, whose names begin with 'model.', "
            "into which timm loads checkpoint_path: give weights as timm saves them as "
            f"pretrained_cfg_overlay: {{file: FILE}}, with pretrained ({error})"
        ) from error


def _getter(module: nn.Module) -> Any:
    """Timm's own wrapper, which holds the settings; TerraTorch's binds its ``forward``."""
    forward: Any = module.forward
    return forward.__self__
