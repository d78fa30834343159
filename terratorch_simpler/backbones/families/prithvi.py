"""Prithvi-EO 1 and 2: 3-D patches of one or several frames, with optional coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from terratorch_simpler.backbones.families.family import Arguments, Family, Statistics


def _arguments() -> set[str]:
    from inspect import signature

    from terratorch.models.backbones import prithvi_vit
    from terratorch.models.backbones.prithvi_mae import PrithviViT

    builders = (prithvi_vit.prithvi_eo_v2_300, prithvi_vit._create_prithvi, PrithviViT.__init__)
    known = {name for builder in builders for name in signature(builder).parameters}
    # The factory reads padding from the backbone's arguments and passes it on.
    known |= prithvi_vit.prithvi_cfgs["prithvi_eo_v2_300"].keys() | {"out_indices", "padding"}
    return known - {"self", "variant", "encoder_only", "kwargs"}


def _statistics(name: str, arguments: Arguments, bands: Sequence[str]) -> Statistics | None:
    from terratorch.models.backbones.prithvi_vit import prithvi_cfgs

    del arguments
    config = prithvi_cfgs.get(name)
    if config is None:
        return None
    known = [band.value for band in config["bands"]]
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise ValueError(
            f"{name} publishes no statistics for {', '.join(unknown)} (it knows "
            f"{', '.join(known)}): give means and stds for your bands"
        )
    index = [known.index(band) for band in bands]
    return [config["mean"][i] for i in index], [config["std"][i] for i in index]


def _features(module: Any, *args: Any, **kwargs: Any) -> Any:
    return module.forward_features(*args, **kwargs)


def _outputs(module: Any) -> list[int] | None:
    depth = len(module.blocks)
    chosen = [int(i) for i in getattr(module, "out_indices", range(depth))]
    return None if chosen == list(range(depth)) else chosen


def _check(module: Any, image: Any, inputs: Arguments, arguments: Arguments) -> None:
    frames = int(module.num_frames)
    given = image.shape[2] if image.ndim == 5 else 1
    if given != frames:
        raise ValueError(
            f"was built for {frames} frames (num_frames), the tiles have {given}: make them agree"
        )
    # The TL variants encode coordinates by default, and do without where there are none.
    asked = arguments.get("coords_encoding") or []
    for key, what in (("temporal_coords", "time"), ("location_coords", "location")):
        if what in asked and key not in inputs:
            raise ValueError(
                f"is to encode the {what} (coords_encoding), but the batches hold no {key}: use a "
                "datamodule that gives them, or take it out of coords_encoding"
            )


PRITHVI = Family(
    name="Prithvi",
    class_path="terratorch.models.backbones.prithvi_mae.PrithviViT",
    owns=lambda source, name: source == "terratorch" and name.startswith("prithvi_eo_"),
    blocks="blocks",
    features=_features,
    outputs=_outputs,
    # Deep prompts (VPT) stand between the class and the patch tokens while a block runs.
    special_tokens=lambda module: 1 + (module.vpt_n_tokens or 0 if module.vpt else 0),
    check=_check,
    inputs=("temporal_coords", "location_coords"),
    per_block=("vpt_prompt_embeddings", "vpt_dropout_layers"),
    # TerraTorch replaces forward by a closure over the model it built.
    bound=("forward",),
    arguments=_arguments,
    refused_arguments={
        "vit_adapter": "it reads blocks at fixed positions of the full depth: remove "
        "vit_adapter to prune"
    },
    statistics=_statistics,
)
