"""Which scenes were named, and where the map of each goes."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from terratorch_simpler.tiles.archives import outside
from terratorch_simpler.tiles.find import find_rasters, only_gdal
from terratorch_simpler.tiles.products import SceneFiles, find_scenes

ENDINGS = (".tif", ".tiff")


def find_maps(scenes: Sequence[str], output: str) -> dict[Path, SceneFiles]:
    """The scenes that were named, by the map of each.

    Args:
        scenes: Files, globs, folders, archives or lists of them (``.txt``). Files of one scene that
            are one a band are one scene.
        output: The map of one scene, where it ends in ``.tif``; else a folder, in which each map is
            named after its scene.

    Raises:
        FileNotFoundError: If a scene does not exist.
        ValueError: If there is no raster, several scenes are to become one file, two maps would
            have one name, or a map would take the place of a scene.
    """
    found = [scene for named in scenes for scene in _find(named)]
    # Two globs may name one scene.
    distinct = list({scene.files: scene for scene in found}.values())
    target = Path(output)
    if target.suffix.lower() in ENDINGS and not target.is_dir():
        if len(distinct) > 1:
            raise ValueError(
                f"{len(distinct)} scenes cannot become one map, {output}: name a folder"
            )
        paths = [target]
    else:
        paths = [target / f"{_name(scene)}.tif" for scene in distinct]
    maps: dict[Path, SceneFiles] = {}
    for path, scene in zip(paths, distinct, strict=True):
        if path in maps:
            raise ValueError(
                f"{maps[path].name} and {scene.name} would both become {path}: make their maps "
                "one after the other, in folders of their own"
            )
        maps[path] = scene
    sources = {str(Path(file).resolve()) for scene in distinct for file in scene.files}
    for path in maps:
        if str(path.resolve()) in sources:
            raise ValueError(
                f"the map {path} would take the place of a scene: choose another output"
            )
    return maps


def _find(named: str) -> list[SceneFiles]:
    if not only_gdal(named) and not glob.has_magic(named) and not Path(outside(named)).exists():
        raise FileNotFoundError(f"no such scene: {named}")
    return find_scenes(find_rasters(named).files).scenes


def _name(scene: SceneFiles) -> str:
    """The last part of a scene's name, without an ending."""
    last = scene.name.rstrip("/").rpartition("/")[2].partition("?")[0]
    return last if scene.labels is not None else Path(last).stem
