"""TerraMind: one or several modalities as a dict, and its "thinking in modalities" variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from terratorch_simpler.backbones.families.family import Arguments, Family, Statistics, own_forward


def _image_embeddings(module: Any) -> dict[str, Any]:
    """Embedding of each input modality that comes as an image, by the name in a batch."""
    return {
        name: module.encoder_embeddings[key]
        for name, key in module.mod_name_mapping.items()
        if key in module.image_modalities and key not in module.tokenizer
    }


def _given(module: Any, image: Any) -> dict[str, Any]:
    return dict(image) if isinstance(image, Mapping) else {module.modalities[0]: image}


def _patch_tokens(module: Any, image: Any, count: int) -> list[int]:
    """Tokens of image modalities: registers come first, sequences stand among the images."""
    start = int(module.num_register_tokens)
    chosen: list[int] = []
    for name, value in _given(module, image).items():
        key = module.mod_name_mapping[name]
        if key not in module.image_modalities:
            held = value["tensor"] if isinstance(value, Mapping) else value
            start += held.shape[1]
            continue
        patch = module.encoder_embeddings[key].patch_size
        size = value.shape[-2] * value.shape[-1] // (patch[0] * patch[1])
        chosen += range(start, start + size)
        start += size
    # Modalities that TiM adds follow the given ones, and are not measured tiles.
    assert start <= count
    return chosen


def _bands(module: Any) -> dict[str, int]:
    # A subset of bands replaces the projection, and leaves num_channels as it was.
    return {
        name: embedding.proj.in_features // (embedding.patch_size[0] * embedding.patch_size[1])
        for name, embedding in _image_embeddings(module).items()
        if hasattr(embedding, "proj")
    }


def _check(module: Any, image: Any, inputs: Arguments, arguments: Arguments) -> None:
    del inputs, arguments
    given = _given(module, image)
    unknown = [name for name in given if name not in module.mod_name_mapping]
    generated = getattr(module, "tim_modalities", [])
    wanted = [name for name in module.modalities if name not in generated]
    missing = [name for name in wanted if name not in given]
    if unknown or missing:
        what = f"does not know {', '.join(unknown)}" if unknown else f"misses {', '.join(missing)}"
        raise ValueError(
            f"reads the modalities {', '.join(wanted)} and {what}: make the modalities of the "
            "tiles those of the backbone"
        )
    for name, embedding in _image_embeddings(module).items():
        if name in given and any(
            side % patch
            for side, patch in zip(given[name].shape[-2:], embedding.patch_size, strict=True)
        ):
            raise ValueError(
                f"cuts tiles into patches of {embedding.patch_size[0]} px, those of {name} have "
                f"{given[name].shape[-2]} x {given[name].shape[-1]}: make both a multiple of it"
            )


def _modality(name: str, arguments: Arguments) -> str:
    modalities = arguments.get("modalities")
    if not isinstance(modalities, list) or len(modalities) != 1:
        raise ValueError(
            f"{name} reads several modalities: say which one the bands belong to with "
            "modalities, for example [S2L2A]"
        )
    (modality,) = modalities
    return next(iter(modality)) if isinstance(modality, Mapping) else str(modality)


def _read_bands(arguments: Arguments) -> Any:
    bands = arguments.get("bands")
    if isinstance(bands, Mapping):
        return next(iter(bands.values())) if len(bands) == 1 else None
    return bands


def _write_bands(bands: list[str], arguments: Arguments) -> dict[str, Any]:
    return {"bands": {_modality("TerraMind", arguments): bands}}


def _no_bands(bands: list[str], arguments: Arguments) -> dict[str, Any]:
    """TerraTorch refuses a choice of bands for TiM: the modality has all of them."""
    del bands
    _modality("TerraMind", arguments)
    return {}


def _statistics(name: str, arguments: Arguments, bands: Sequence[str]) -> Statistics | None:
    from terratorch.models.backbones.terramind.model import terramind_register as published
    from terratorch.models.backbones.terramind.model.modality_info import MODALITY_INFO
    from terratorch.models.backbones.terramind.model.terramind import build_modality_embeddings

    modality = _modality(name, arguments)
    if not isinstance(arguments["modalities"][0], str):
        return None
    # TerraTorch accepts several spellings of a modality, and only it knows which.
    embeddings, names = build_modality_embeddings(
        MODALITY_INFO, [modality], img_size=16, dim=4, patch_size=16
    )
    del embeddings
    key = names[modality]
    version = "v01" if name.startswith("terramind_v01") else "v1"
    means = getattr(published, f"{version}_pretraining_mean").get(key)
    stds = getattr(published, f"{version}_pretraining_std").get(key)
    known = published.PRETRAINED_BANDS.get(key)
    if means is None or known is None:
        return None
    unknown = [band for band in bands if band not in known]
    if unknown:
        raise ValueError(
            f"{name} publishes no statistics for {', '.join(unknown)} of {modality} (it knows "
            f"{', '.join(known)}): give means and stds for your bands"
        )
    index = [known.index(band) for band in bands]
    return [means[i] for i in index], [stds[i] for i in index]


def _tim_features(module: Any, image: Any = None, **modalities: Any) -> Any:
    """Run a pruned TiM backbone, which writes what it generates into the dict that it is given."""
    given = dict(image) if isinstance(image, Mapping) else image
    return own_forward(module, given, **modalities)


TERRAMIND = Family(
    name="TerraMind",
    class_path="terratorch.models.backbones.terramind.model.terramind_vit.TerraMindViT",
    owns=lambda source, name: (
        source == "terratorch"
        and name.startswith("terramind_")
        and "tokenizer" not in name
        and not name.endswith("_tim")
    ),
    blocks="encoder",
    special_tokens=lambda module: int(module.num_register_tokens),
    patch_tokens=_patch_tokens,
    bands=_bands,
    patch=lambda module: next(
        (int(e.patch_size[0]) for e in _image_embeddings(module).values()), None
    ),
    check=_check,
    weights_always=True,
    read_bands=_read_bands,
    write_bands=_write_bands,
    example_arguments={"modalities": ["S2L2A"]},
    statistics=_statistics,
)

TERRAMIND_TIM = replace(
    TERRAMIND,
    name="TerraMind TiM",
    # Only the last pass is cut: what generates the further modalities stays as it is.
    class_path="terratorch.models.backbones.terramind.model.terramind_tim.TerraMindTiM",
    owns=lambda source, name: (
        source == "terratorch" and name.startswith("terramind_") and name.endswith("_tim")
    ),
    features=_tim_features,
    generates=True,
    write_bands=_no_bands,
)
