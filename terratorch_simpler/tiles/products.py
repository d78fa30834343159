"""Which files belong to one scene: a stack of bands, or one file a band as providers deliver it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from terratorch_simpler.bands import BAND_WORDS
from terratorch_simpler.tiles.quality import QUALITY_LAYERS

_BANDS = (
    r"(?:SR_|ST_)?B\d{1,2}(?:_VCID_[12])?|B8A|sur_refl_b\d\d|Nadir_Reflectance_Band\d|SWIR[12]|"
    + "|".join(sorted(BAND_WORDS))
)
_OTHERS = (
    # Sentinel-2, HLS and Landsat, in this order.
    r"AOT|SCL|TCI|WVP|PVI|CLD|SNW|MSK_\w+|Fmask|[SV][AZ]A|"
    r"BQA|(?:SR_)?QA_\w+|ST_[A-Z]+|SR_ATMOS_OPACITY|SR_CLOUD_QA"
)
_LAYER = re.compile(
    rf"(?:(?P<scene>.+?)[_.])?(?:(?P<band>{_BANDS})|(?P<other>{_OTHERS}))"
    r"(?:_(?P<metres>10|20|30|60)m)?\.[A-Za-z0-9]+"
)
_RESOLUTION_FOLDER = re.compile(r"/R[126]0m$")
_SAFE = re.compile(r"\.SAFE/(?!.*IMG_DATA)")


@dataclass(frozen=True)
class SceneFiles:
    """The files of one scene.

    Attributes:
        name: What they share: the path of a stack, or that of band files without band and ending.
        files: A stack alone, or one file a band.
        labels: The band part of each file's name; None for a stack.
        quality: Its quality layers, by the last part of their names.
    """

    name: str
    files: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    quality: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Scenes among files, and what is neither a scene nor a band of one.

    Attributes:
        scenes: In the order of their first files.
        others: Layers beside the bands, such as masks, angles and pictures.
    """

    scenes: list[SceneFiles]
    others: list[str]


Key = tuple[str, str]
"""A folder, and what the names of a scene's files there begin with."""


def find_scenes(files: Sequence[str]) -> Found:
    """Put the files of each scene together.

    Files of one folder whose names differ only in a band (``x_B02.tif``, ``x_B03.tif``, or
    ``B02.tif`` and ``B03.tif``) are one scene. What lies beside them and begins like them is
    another layer of it. All other files are stacks, scenes of their own.
    """
    bands: dict[Key, dict[str, list[tuple[int, str]]]] = {}
    layers: dict[Key, dict[str, list[str]]] = {}
    stacks, others = [], []
    for file in files:
        folder, _, name = file.rpartition("/")
        folder = _RESOLUTION_FOLDER.sub("", folder)
        match = _LAYER.fullmatch(name)
        if _SAFE.search(file):
            others.append(file)
        elif match and match["band"]:
            of_scene = bands.setdefault((folder, match["scene"] or ""), {})
            of_scene.setdefault(match["band"], []).append((int(match["metres"] or 0), file))
        elif match:
            of_layer = layers.setdefault((folder, match["scene"] or ""), {})
            of_layer.setdefault(match["other"], []).append(file)
        else:
            stacks.append(file)
    for key in [key for key, found in bands.items() if not key[1] and len(found) == 1]:
        # One file alone is no folder of bands, whatever it is called.
        stacks += [file for found in bands.pop(key).values() for _, file in found]
    beside: dict[str, list[str]] = {}
    for folder, scene in bands:
        beside.setdefault(folder, []).append(scene)
    alone = [file for file in stacks if not _lies_beside(file, beside)]
    others += set(stacks).difference(alone)
    scenes = [_of_bands(key, found, layers.pop(key, {}), others) for key, found in bands.items()]
    scenes += [_of_stack(file, layers, others) for file in alone]
    # What is left belongs to no scene: whether it can be read as one shows when it is opened.
    left = [file for of_layer in layers.values() for files in of_layer.values() for file in files]
    scenes += [SceneFiles(file, (file,)) for file in left]
    return Found(sorted(scenes, key=lambda scene: scene.files[0]), sorted(others))


def _lies_beside(file: str, scenes: Mapping[str, Sequence[str]]) -> bool:
    """Whether a file begins like a scene of band files in its folder, and goes on."""
    folder, _, name = file.rpartition("/")
    stem = name.rpartition(".")[0]
    return any(
        not scene or (stem.startswith(scene) and stem[len(scene) : len(scene) + 1] in ("_", "."))
        for scene in scenes.get(folder, ())
    )


def _of_bands(
    key: Key,
    bands: Mapping[str, list[tuple[int, str]]],
    layers: Mapping[str, list[str]],
    others: list[str],
) -> SceneFiles:
    folder, scene = key
    # Of a band in several resolutions, the finest.
    ordered = {label: sorted(found) for label, found in sorted(bands.items())}
    others += [file for found in ordered.values() for _, file in found[1:]]
    files = tuple(found[0][1] for found in ordered.values())
    name = f"{folder}/{scene}" if scene else folder
    return SceneFiles(name, files, tuple(ordered), _quality(layers, others))


def _of_stack(file: str, layers: dict[Key, dict[str, list[str]]], others: list[str]) -> SceneFiles:
    folder, _, name = file.rpartition("/")
    beside = layers.pop((folder, name.rpartition(".")[0]), {})
    return SceneFiles(file, (file,), None, _quality(beside, others))


def _quality(layers: Mapping[str, list[str]], others: list[str]) -> dict[str, str]:
    """The quality layers, each in its finest resolution; the other layers are added to others."""
    wanted = {layer.label for layer in QUALITY_LAYERS.values()}
    found = {label: sorted(files)[0] for label, files in layers.items() if label in wanted}
    others += [file for files in layers.values() for file in files if file not in found.values()]
    return found
