"""Vision transformers of torchgeo and of DINOv3, each in a wrapper of TerraTorch's own."""

from __future__ import annotations

from typing import Any

from terratorch_simpler.backbones.families.family import Arguments, Family


def _model_bands(bands: list[str], arguments: Arguments) -> dict[str, Any]:
    del arguments
    return {"model_bands": bands}


def _fixed_size(module: Any, image: Any, size: int) -> None:
    if tuple(image.shape[-2:]) != (size, size):
        raise ValueError(
            f"has a position embedding for {size} x {size} px, the tiles have "
            f"{image.shape[-2]} x {image.shape[-1]}: change their size, or build it with "
            f"img_size={image.shape[-1]}"
        )


def _settings(module: Any) -> dict[str, Any]:
    """Where its weights came from, which only informs: torchvision's entry cannot be unpickled."""
    del module
    return {"weights": None}


def _dofa_outputs(module: Any) -> list[int]:
    depth = len(module.dofa_model.blocks)
    # DOFA gives them in the order of its blocks, each once, and knows no negative index but -1.
    chosen = {depth - 1 if i == -1 else int(i) for i in module.out_indices}
    return sorted(i for i in chosen if 0 <= i < depth)


DOFA = Family(
    name="DOFA",
    class_path="terratorch.models.backbones.dofa_vit.DOFAEncoderWrapper",
    raw_outputs=lambda _module: True,
    owns=lambda source, name: source == "terratorch" and name.startswith("dofa_"),
    blocks="dofa_model.blocks",
    settings=_settings,
    indices="out_indices",
    outputs=_dofa_outputs,
    default_outputs=lambda depth: [depth - 1],
    special_tokens=lambda _module: 1,
    bands=lambda module: len(module.wavelengths),
    check=lambda module, image, *_: _fixed_size(module, image, module.dofa_model.img_size),
    weights="ckpt_data",
    read_bands=lambda arguments: arguments.get("model_bands"),
    write_bands=_model_bands,
    example_arguments={"model_bands": ["RED", "GREEN", "BLUE"]},
)

SSL4EO = Family(
    name="SSL4EO ViT",
    class_path="terratorch.models.backbones.torchgeo_vit.ViTEncoderWrapper",
    raw_outputs=lambda _module: True,
    owns=lambda source, name: (
        source == "terratorch" and name.startswith("ssl4eo") and "_vit_" in name
    ),
    blocks="vit_model.blocks",
    settings=_settings,
    special_tokens=lambda module: int(module.vit_model.num_prefix_tokens),
    check=lambda module, image, *_: _fixed_size(
        module, image, module.vit_model.patch_embed.img_size[0]
    ),
    weights="ckpt_data",
    read_bands=lambda arguments: arguments.get("model_bands"),
    write_bands=_model_bands,
    example_arguments={"model_bands": ["RED", "GREEN", "BLUE"]},
)

DINOV3 = Family(
    name="DINOv3",
    class_path="terratorch.models.backbones.dinov3.dinov3_wrapper.DinoV3Wrapper",
    owns=lambda source, name: source == "terratorch" and name.startswith("dinov3_vit"),
    blocks="dinov3.blocks",
    indices="output_indexes",
    # One class token, then the storage tokens that DINOv3 calls registers.
    special_tokens=lambda module: 1 + int(getattr(module.dinov3, "n_storage_tokens", 0)),
    weights_always=True,
    read_bands=lambda _arguments: None,
    write_bands=lambda _bands, _arguments: {},
)
