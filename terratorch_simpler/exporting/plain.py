"""A pruned task in TerraTorch's own words: the same model by depth, without this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from terratorch_simpler.exporting.load import OF_PLAN, full_name

if TYPE_CHECKING:
    from torch import Tensor

    from terratorch_simpler.backbones.pruned import PrunedBackbone

OURS = (
    *OF_PLAN,
    *("backbone_keep_blocks", "backbone_outputs", "backbone_blocks", "backbone_patch_embedding"),
)
SELECT = "SelectIndices"


@dataclass(frozen=True)
class PlainModel:
    """What TerraTorch needs to build a pruned model by itself.

    Attributes:
        model_args: What its model factory takes.
        necks_before: Necks that were put before those that the task has.
    """

    model_args: dict[str, Any]
    necks_before: int

    def state_dict(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A task's weights, under the names that they have in the plain one."""
        return {_moved(name, self.necks_before): value for name, value in weights.items()}


def plain_model(model_args: Mapping[str, Any], pruned: PrunedBackbone | None) -> PlainModel:
    """Say a model in TerraTorch's own words.

    Args:
        model_args: What the model factory takes, with no weights to load.
        pruned: The pruned backbone in the model; None for a full one, which is plain as it is.

    Raises:
        ValueError: If no backbone of TerraTorch's registry is the pruned one, with the reason.
    """
    if pruned is None:
        return PlainModel(dict(model_args), 0)
    name, depth = full_name(model_args), len(pruned.kept_blocks)
    family = pruned._family()
    own = {key: value for key, value in model_args.items() if key not in OURS}
    shallow = family.shallow(depth)
    if shallow is None:
        raise ValueError(
            f"TerraTorch has no {name} of {depth} blocks: the builder of {family.name} backbones "
            "takes no depth. Export to safetensors, onnx or pt2 instead"
        )
    # The temporal wrapper and the like stay as they are.
    plain = {**own, "backbone": name, **{f"backbone_{k}": v for k, v in shallow.items()}}
    necks, positions = list(own.get("necks") or []), pruned.output_blocks
    plain.pop("backbone_out_indices", None)
    if "out_indices" in shallow:
        plain["backbone_out_indices"] = shallow["out_indices"]
    before = 0
    if necks and necks[0].get("name") == SELECT:
        chosen = [positions[index] for index in necks[0]["indices"]]
        necks[0] = {**necks[0], "indices": chosen}
    elif positions != list(range(depth)) and family.repeats_outputs:
        plain["backbone_out_indices"] = positions
    elif positions != list(range(depth)):
        necks, before = [{"name": SELECT, "indices": positions}, *necks], 1
    if necks:
        plain["necks"] = necks
    _check_same(name, plain, pruned)
    return PlainModel(plain, before)


def _check_same(name: str, plain: Mapping[str, Any], pruned: PrunedBackbone) -> None:
    """Refuse a plain backbone whose weights have other names or shapes."""
    from terratorch_simpler.backbones.build import sketch
    from terratorch_simpler.task.build import backbone_arguments

    built = sketch(name, backbone_arguments(plain))
    theirs = {key: value.shape for key, value in built.state_dict().items()}
    ours = {key: value.shape for key, value in pruned.state_dict().items()}
    if theirs != ours:
        differing = sorted(
            key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)
        )
        raise ValueError(
            f"TerraTorch's {name} of {len(pruned.kept_blocks)} blocks has other weights than the "
            f"pruned one ({differing[0]}): export to safetensors, onnx or pt2 instead"
        )


def _moved(name: str, by: int) -> str:
    """A weight's name once its neck stands further back."""
    start = "model.neck."
    if not by or not name.startswith(start):
        return name
    number, _, rest = name.removeprefix(start).partition(".")
    return f"{start}{int(number) + by}.{rest}"
