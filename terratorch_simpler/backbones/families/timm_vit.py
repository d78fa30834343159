"""Vision transformers of timm, in the wrapper that TerraTorch puts around them."""

from __future__ import annotations

from typing import Any

from terratorch_simpler.backbones.families.family import Arguments, Family, first_convolution
from terratorch_simpler.backbones.families.structure import check_tokens, image_size


def _getter(module: Any) -> Any:
    """Timm's own wrapper, which holds the settings; TerraTorch's binds its ``forward``."""
    return module.forward.__self__


def _blocks(module: Any) -> str:
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
    if len(module.get_submodule(path)) != len(info):
        raise ValueError(
            f"it was built without the blocks after the last of its out_indices ({last}): build it "
            "with all of them, without out_indices"
        )
    size = image_size(module)
    check_tokens(module, path, (first_convolution(module) or 3, size, size))
    return path


def _features(module: Any, image: Any) -> Any:
    return module.model.forward_intermediates(
        image,
        norm=module.norm_features,
        output_fmt=module.output_format,
        intermediates_only=True,
    )


def _outputs(module: Any) -> list[int]:
    return [int(i) for i in getattr(module, "out_indices", _getter(module).out_indices)]


def choose_outputs(module: Any, indices: Any) -> None:
    """Remember the ``out_indices`` of a backbone that was built with all its blocks.

    Args:
        module: The backbone.
        indices: As timm takes them: the last n blocks, or a list of indices.
    """
    depth = len(_getter(module).feature_info.info)
    if isinstance(indices, int):
        indices = range(depth - indices, depth)
    module.out_indices = [int(i) for i in indices]


def _first_only(module: Any) -> str | None:
    if getattr(module.model, "rope_mixed", False):
        return "its rotary position embedding has an entry for each block"
    return None


def _check(module: Any, image: Any, inputs: Arguments, arguments: Arguments) -> None:
    del inputs, arguments
    embedding = getattr(module.model, "patch_embed", None)
    size = getattr(embedding, "img_size", None)
    fixed = getattr(embedding, "strict_img_size", False)
    if fixed and size is not None and tuple(image.shape[-2:]) != tuple(size):
        raise ValueError(
            f"has a position embedding for {size[0]} x {size[1]} px, the tiles have "
            f"{image.shape[-2]} x {image.shape[-1]}: change their size, or build it with "
            f"img_size={image.shape[-1]}"
        )


TIMM_VIT = Family(
    name="timm ViT",
    class_path="terratorch.registry.timm_registry.TimmBackboneWrapper",
    owns=lambda source, _name: source == "timm",
    blocks=_blocks,
    features=_features,
    settings=lambda module: {
        "norm_features": _getter(module).norm,
        "output_format": str(_getter(module).output_fmt.value),
    },
    outputs=_outputs,
    # As timm: the last three blocks.
    default_outputs=lambda depth: list(range(depth))[-3:],
    special_tokens=lambda module: getattr(module.model, "num_prefix_tokens", 0),
    check=_check,
    bound=("forward", "prepare_features_for_image_model"),
    first_only=_first_only,
    raw_outputs=lambda module: not _getter(module).norm,
    weights="pretrained_cfg_overlay",
    refused_arguments={
        "checkpoint_path": "timm loads it into a backbone without its final norm, where it does "
        "not fit: give pretrained_cfg_overlay: {file: FILE}, with pretrained"
    },
    read_bands=lambda _arguments: None,
    write_bands=lambda bands, _arguments: {"in_chans": len(bands)},
)
