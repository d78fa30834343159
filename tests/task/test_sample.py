"""The sample's task, also with another backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from terratorch_simpler.task.sample import IN_CLONE, sample_config

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]


def parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the model and of the data."""
    config = yaml.safe_load(text)
    return config["model"]["init_args"]["model_args"], config["data"]["init_args"]


def test_it_says_where_the_sample_is_installed() -> None:
    model, data = parts(sample_config())
    for path in (model["backbone_ckpt_path"], data["train_data_root"]):
        assert path.endswith(path.partition(f"{IN_CLONE}/")[2])
        assert Path(path).is_absolute()
        assert Path(path).exists()


def test_a_deeper_prithvi_with_its_own_weights() -> None:
    model, data = parts(sample_config("prithvi_eo_v2_300"))
    assert {key: value for key, value in model.items() if key.startswith("backbone")} == {
        "backbone": "prithvi_eo_v2_300",
        "backbone_pretrained": True,
        "backbone_bands": BANDS,
    }
    assert model["necks"][0] == {"name": "SelectIndices", "indices": [5, 11, 17, 23]}
    assert data["means"] == [1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0]


def test_terramind_reads_the_tiles_as_one_modality() -> None:
    model, data = parts(sample_config("terramind_v1_base"))
    assert model["backbone_modalities"] == ["S2L2A"]
    assert model["backbone_bands"] == {"S2L2A": BANDS}
    assert len(data["means"]) == len(data["stds"]) == 6
    assert data["means"] != parts(sample_config())[1]["means"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prithvi_eo_v2_30", "did you mean prithvi_eo_v2_300"),
        ("timm_vit_tiny_patch16_224", "publishes no statistics of BLUE, GREEN"),
        ("simpler_prithvi_eo_v2_300", "give the full one"),
        ("timm_resnet18", "depth"),
    ],
)
def test_a_backbone_that_the_sample_cannot_have(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sample_config(name)
