"""TerraMind: one or several modalities as a dict, and its "thinking in modalities" variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from terratorch_simpler.backbones.families.family import (
    Arguments,
    Family,
    Images,
    Origin,
    Statistics,
)

if TYPE_CHECKING:
    from terratorch.models.backbones.terramind.model.terramind_vit import TerraMindViT


class TerraMind(Family["TerraMindViT"]):
    """Backbones of ``terramind_*`` that only read their modalities."""

    name = "TerraMind"
    class_path = "terratorch.models.backbones.terramind.model.terramind_vit.TerraMindViT"
    path = "encoder"
    checkpoints: ClassVar = {"ckpt_path": True}
    example_arguments: ClassVar = {"modalities": ["S2L2A"]}
    # What TiM generates with holds convolutions, and stays as it is.
    embeds_otherwise = "each modality is a matrix product already"

    def owns(self, source: str, name: str) -> bool:
        """Names that begin with ``terramind_``, but tokenizers and TiM variants."""
        known = source == "terratorch" and name.startswith("terramind_")
        return known and "tokenizer" not in name and not name.endswith("_tim")

    def read_bands(self, arguments: Arguments) -> Any:
        """Those of the one modality, where there is only one."""
        bands = arguments.get("bands")
        if isinstance(bands, Mapping):
            return next(iter(bands.values())) if len(bands) == 1 else None
        return bands

    def write_bands(self, bands: list[str], arguments: Arguments) -> dict[str, Any]:
        """Bands of the one modality that the arguments name."""
        return {"bands": {_modality("TerraMind", arguments): bands}}

    def statistics(
        self, name: str, arguments: Arguments, bands: Sequence[str]
    ) -> Statistics | None:
        """Those that TerraTorch publishes for the one modality that the arguments name."""
        from terratorch.models.backbones.terramind.model import terramind_register as published

        modality = _modality(name, arguments)
        if not isinstance(arguments["modalities"][0], str):
            return None
        key = _key_of(modality)
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

    def origin(self, name: str) -> Origin | None:
        """As TerraTorch says; the models' own pages name the licence."""
        from terratorch.models.backbones.terramind.model.terramind_register import (
            pretrained_weights,
        )

        found = pretrained_weights.get(name)
        return None if found is None else Origin(found["hf_hub_id"], "apache-2.0")

    def special_tokens(self, module: TerraMindViT) -> int:
        """Its registers."""
        return int(module.num_register_tokens)

    def patch_tokens(self, module: TerraMindViT, image: Images, count: int) -> list[int]:
        """Tokens of image modalities: registers come first, sequences stand among the images."""
        start = self.special_tokens(module)
        chosen: list[int] = []
        for name, value in _given(module, image).items():
            key = module.mod_name_mapping[name]
            if key not in module.image_modalities:
                held = value["tensor"] if isinstance(value, Mapping) else value
                start += held.shape[1]
                continue
            embedding: Any = module.encoder_embeddings[key]
            rows, columns = embedding.patch_size
            size = value.shape[-2] * value.shape[-1] // (rows * columns)
            chosen += range(start, start + size)
            start += size
        # Modalities that TiM adds follow the given ones, and are not measured tiles.
        assert start <= count
        return chosen

    def bands(self, module: TerraMindViT) -> dict[str, int]:
        """From the projections: a subset of bands leaves ``num_channels`` as it was."""
        return {
            name: embedding.proj.in_features // (embedding.patch_size[0] * embedding.patch_size[1])
            for name, embedding in _image_embeddings(module).items()
            if hasattr(embedding, "proj")
        }

    def patch(self, module: TerraMindViT) -> int | None:
        """That of the first image modality."""
        sizes = (int(e.patch_size[0]) for e in _image_embeddings(module).values())
        return next(sizes, None)

    def check(
        self, module: TerraMindViT, image: Images, inputs: Arguments, arguments: Arguments
    ) -> None:
        """All modalities that it reads must be there, and be cut into whole patches."""
        del inputs, arguments
        given = _given(module, image)
        unknown = [name for name in given if name not in module.mod_name_mapping]
        generated = getattr(module, "tim_modalities", [])
        wanted = [name for name in module.modalities if name not in generated]
        missing = [name for name in wanted if name not in given]
        if unknown or missing:
            verb, names = ("does not know", unknown) if unknown else ("misses", missing)
            raise ValueError(
                f"reads the modalities {', '.join(wanted)} and {verb} {', '.join(names)}: make the "
                "modalities of the tiles those of the backbone"
            )
        for name, embedding in _image_embeddings(module).items():
            if name in given and any(
                side % patch
                for side, patch in zip(given[name].shape[-2:], embedding.patch_size, strict=True)
            ):
                raise ValueError(
                    f"cuts tiles into patches of {embedding.patch_size[0]} px, those of {name} "
                    f"have {given[name].shape[-2]} x {given[name].shape[-1]}: make both a multiple "
                    "of it"
                )


class TerraMindTiM(TerraMind):
    """Backbones of ``terramind_*_tim``, which generate further modalities before the last pass.

    Only the last pass is pruned: what generates stays as it is.
    """

    name = "TerraMind TiM"
    class_path = "terratorch.models.backbones.terramind.model.terramind_tim.TerraMindTiM"
    generates = True

    def owns(self, source: str, name: str) -> bool:
        """Names that begin with ``terramind_`` and end in ``_tim``."""
        known = source == "terratorch" and name.startswith("terramind_")
        return known and name.endswith("_tim")

    def write_bands(self, bands: list[str], arguments: Arguments) -> dict[str, Any]:
        """Nothing: TerraTorch refuses a choice of bands, the modality has all of them."""
        super().write_bands(bands, arguments)
        return {}

    @staticmethod
    def features(module: TerraMindViT, *args: Any, **kwargs: Any) -> Any:
        """Run on a copy: it writes what it generates into the dict that it is given."""
        images = [dict(arg) if isinstance(arg, Mapping) else arg for arg in args]
        return TerraMind.features(module, *images, **kwargs)


def _image_embeddings(module: TerraMindViT) -> dict[str, Any]:
    """Embedding of each input modality that comes as an image, by the name in a batch."""
    return {
        name: module.encoder_embeddings[key]
        for name, key in module.mod_name_mapping.items()
        if key in module.image_modalities and key not in module.tokenizer
    }


def _given(module: TerraMindViT, image: Images) -> dict[str, Any]:
    return dict(image) if isinstance(image, Mapping) else {module.modalities[0]: image}


def _modality(name: str, arguments: Arguments) -> str:
    modalities = arguments.get("modalities")
    if not isinstance(modalities, list) or len(modalities) != 1:
        raise ValueError(
            f"{name} reads several modalities: say which one the bands belong to with "
            "modalities, for example [S2L2A]"
        )
    (modality,) = modalities
    return next(iter(modality)) if isinstance(modality, Mapping) else str(modality)


def _key_of(modality: str) -> str:
    """TerraTorch's key of a modality, which can be spelt in several ways that only it knows."""
    from terratorch.models.backbones.terramind.model.modality_info import MODALITY_INFO
    from terratorch.models.backbones.terramind.model.terramind import build_modality_embeddings

    _, names = build_modality_embeddings(
        MODALITY_INFO, [modality], img_size=16, dim=4, patch_size=16
    )
    return str(names[modality])
