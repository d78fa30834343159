"""SIMPLER for TerraTorch: choose the depth of a foundation model before fine-tuning.

Importing this package registers ``simpler_<backbone>`` in TerraTorch's backbone registry. Nothing
heavy is loaded until it is used.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from terratorch_simpler.registry import register_when_imported
from terratorch_simpler.results.shown import Looks, show_with

if TYPE_CHECKING:
    from terratorch_simpler import criteria
    from terratorch_simpler.callbacks import SimplerCallback
    from terratorch_simpler.exporting.export import export
    from terratorch_simpler.exporting.hub import HubModel
    from terratorch_simpler.exporting.load import load
    from terratorch_simpler.layers.features import layer_features
    from terratorch_simpler.probing.probe import probe
    from terratorch_simpler.profiling.profile import profile
    from terratorch_simpler.pruning import prune
    from terratorch_simpler.results.plan import PruningPlan
    from terratorch_simpler.results.probe import Probe
    from terratorch_simpler.results.profile import Profile
    from terratorch_simpler.selection.select import select
    from terratorch_simpler.similarity import LayerSimilarity, linear_cka
    from terratorch_simpler.task.select import select_task
    from terratorch_simpler.tiles.geotiff import GeoTiffTiles

__all__ = (
    "GeoTiffTiles",
    "HubModel",
    "LayerSimilarity",
    "Probe",
    "Profile",
    "PruningPlan",
    "SimplerCallback",
    "criteria",
    "export",
    "layer_features",
    "linear_cka",
    "load",
    "probe",
    "profile",
    "prune",
    "select",
    "select_task",
)

__version__ = "0.1.0"

_HOMES = {
    "GeoTiffTiles": "tiles.geotiff",
    "LayerSimilarity": "similarity",
    "Probe": "results.probe",
    "Profile": "results.profile",
    "PruningPlan": "results.plan",
    "HubModel": "exporting.hub",
    "SimplerCallback": "callbacks",
    "export": "exporting.export",
    "layer_features": "layers.features",
    "linear_cka": "similarity",
    "load": "exporting.load",
    "probe": "probing.probe",
    "profile": "profiling.profile",
    "prune": "pruning",
    "select": "selection.select",
    "select_task": "task.select",
}


def __getattr__(name: str) -> Any:
    if name == "criteria":
        return import_module("terratorch_simpler.criteria")
    if name in _HOMES:
        return getattr(import_module(f"terratorch_simpler.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _looks() -> Looks:
    from terratorch_simpler.report import looks

    return looks


# What TerraTorch imports asks for ipywidgets in a notebook; bars are text without them.
warnings.filterwarnings("ignore", message="IProgress not found", module=r"tqdm\.auto")
register_when_imported()
show_with(_looks)
