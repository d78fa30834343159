"""The task on the embedded sample: land use from Sentinel-2 tiles."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from terratorch_simpler.bands import band_names

TASK = "segmentation.yaml"
IN_CLONE = "terratorch_simpler/samples"
"""Where the config of a clone finds the sample."""
MODALITY = "S2L2A"
"""What the tiles are to backbones that read several modalities."""


def sample_config(backbone: str | None = None) -> str:
    """The sample's task config, with the place where the sample is installed.

    Args:
        backbone: Name of another backbone of TerraTorch's registry, which is to be built with its
            pre-trained weights; by default the small one whose weights lie with the sample.

    Raises:
        ValueError: If there is no such backbone, it cannot be cut, or its weights publish no
            statistics of the sample's bands.
    """
    samples = files("terratorch_simpler") / "samples"
    text = (samples / TASK).read_text().replace(IN_CLONE, Path(str(samples)).as_posix())
    if backbone is None:
        return text
    config: dict[str, Any] = yaml.safe_load(text)
    arguments = config["model"]["init_args"]["model_args"]
    data = config["data"]["init_args"]
    for key in [key for key in arguments if key.startswith("backbone_")]:
        del arguments[key]
    bands = band_names(data["output_bands"])
    assert bands is not None
    named, depth, (data["means"], data["stds"]) = _read(backbone, bands)
    arguments |= {"backbone": backbone, "backbone_pretrained": True}
    arguments |= {f"backbone_{key}": value for key, value in named.items()}
    arguments["necks"][0]["indices"] = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    return yaml.safe_dump(config, sort_keys=False)


def _read(name: str, bands: list[str]) -> tuple[dict[str, Any], int, tuple[Any, Any]]:
    """A backbone's arguments for these bands, its depth, and its means and deviations."""
    from terratorch_simpler.backbones.backbone import Backbone
    from terratorch_simpler.backbones.build import band_arguments, check_name, name_family, sketch
    from terratorch_simpler.backbones.families import find_family
    from terratorch_simpler.backbones.families.terramind import TerraMind

    check_name(name)
    several = isinstance(name_family(name), TerraMind)
    modalities = {"modalities": [MODALITY]} if several else {}
    named = modalities | band_arguments(name, bands, modalities)
    module = sketch(name, named)
    found = Backbone(module, *find_family(module, label=name), name=name, arguments=named)
    statistics = found.statistics(bands)
    if statistics is None:
        raise ValueError(
            f"{name} publishes no statistics of {', '.join(bands)}, the bands of the sample: name "
            "a Prithvi or a TerraMind backbone"
        )
    return named, found.depth, statistics
