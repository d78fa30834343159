"""Prithvi-EO 1 and 2: 3-D patches of one or several frames, with optional coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from terratorch_simpler.backbones.families.family import (
    Arguments,
    Family,
    Images,
    Origin,
    Statistics,
)
from terratorch_simpler.backbones.families.stored import unwrapped

if TYPE_CHECKING:
    from terratorch.models.backbones.prithvi_mae import PrithviViT


class Prithvi(Family["PrithviViT"]):
    """Backbones of ``prithvi_eo_*``."""

    name = "Prithvi"
    class_path = "terratorch.models.backbones.prithvi_mae.PrithviViT"
    path = "blocks"
    inputs = ("temporal_coords", "location_coords")
    per_block = ("vpt_prompt_embeddings", "vpt_dropout_layers")
    # TerraTorch replaces forward by a closure over the model it built.
    bound = ("forward",)
    repeats_outputs = True
    refused_arguments: ClassVar = {
        "vit_adapter": "it reads blocks at fixed positions of the full depth: remove "
        "vit_adapter to prune"
    }

    def owns(self, source: str, name: str) -> bool:
        """Names that begin with ``prithvi_eo_``."""
        return source == "terratorch" and name.startswith("prithvi_eo_")

    def shallow(self, depth: int) -> dict[str, Any]:
        """Its class takes ``depth``, and the builder hands it on."""
        return {"depth": depth}

    def known_arguments(self) -> set[str]:
        """Arguments of TerraTorch's builder and of its class, since the builder takes any."""
        from inspect import signature

        from terratorch.models.backbones import prithvi_vit
        from terratorch.models.backbones.prithvi_mae import PrithviViT

        builders = (
            prithvi_vit.prithvi_eo_v2_300,
            prithvi_vit._create_prithvi,
            PrithviViT.__init__,
        )
        known = {name for builder in builders for name in signature(builder).parameters}
        # The factory reads padding from the backbone's arguments and passes it on.
        known |= prithvi_vit.prithvi_cfgs["prithvi_eo_v2_300"].keys() | {"out_indices", "padding"}
        return known - {"self", "variant", "encoder_only", "kwargs"}

    def stored(self, path: Path) -> Any:
        """Under the first key that ends in ``state_dict``, if there is one."""
        return unwrapped(path)

    def statistics(
        self, name: str, arguments: Arguments, bands: Sequence[str]
    ) -> Statistics | None:
        """Those of TerraTorch's configuration of the name."""
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

    def origin(self, name: str) -> Origin | None:
        """As TerraTorch says; the models' own pages name the licence."""
        from terratorch.models.backbones.prithvi_vit import pretrained_weights

        found = pretrained_weights.get(name)
        return None if found is None else Origin(found["hf_hub_id"], "apache-2.0")

    def special_tokens(self, module: PrithviViT) -> int:
        """The class token, and deep prompts (VPT), which stand behind it while a block runs."""
        return 1 + (module.vpt_n_tokens or 0 if module.vpt else 0)

    def check(
        self, module: PrithviViT, image: Images, inputs: Arguments, arguments: Arguments
    ) -> None:
        """Frames must be as many as it was built for, and coordinates there where asked for."""
        assert isinstance(image, Tensor)
        frames = int(module.num_frames)
        given = image.shape[2] if image.ndim == 5 else 1
        if given != frames:
            raise ValueError(
                f"was built for {frames} frames (num_frames), the tiles have {given}: make them "
                "agree"
            )
        # The TL variants encode coordinates by default, and do without where there are none.
        asked = arguments.get("coords_encoding") or []
        for key, what in (("temporal_coords", "time"), ("location_coords", "location")):
            if what in asked and key not in inputs:
                raise ValueError(
                    f"is to encode the {what} (coords_encoding), but the batches hold no {key}: "
                    "use a datamodule that gives them, or take it out of coords_encoding"
                )

    def example_inputs(self, image: Images) -> dict[str, Any]:
        """Coordinates: a year and day for each frame, latitude and longitude, all 0."""
        assert isinstance(image, Tensor)
        frames = image.shape[2] if image.ndim == 5 else 1
        return {
            "temporal_coords": torch.zeros(len(image), frames, 2),
            "location_coords": torch.zeros(len(image), 2),
        }

    @staticmethod
    def features(module: PrithviViT, *args: Any, **kwargs: Any) -> Any:
        """``forward_features``, which gives an output for every block."""
        return module.forward_features(*args, **kwargs)

    def outputs(self, module: PrithviViT) -> list[int] | None:
        """Its ``out_indices``, where they are not those of all blocks."""
        depth = len(module.blocks)
        chosen = [int(i) for i in getattr(module, "out_indices", range(depth))]
        return None if chosen == list(range(depth)) else chosen
