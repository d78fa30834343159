"""Backbones of TerraTorch's registry, built as ``simpler_<name>`` wherever a test asks for one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, Literal, get_args

Mode = Literal["unmodified", "third", "uncut"]
MODES: tuple[Mode, ...] = get_args(Mode)

FACTORIES = ("EncoderDecoderFactory", "ObjectDetectionModelFactory", "GenericModelFactory")
"""Factories that take any name of the registry; PrithviModelFactory calls the first of them."""


@dataclass
class Swap:
    """What is swapped now, and what was since the last :meth:`start`.

    Attributes:
        mode: ``unmodified``, or what ``simpler_<name>`` is to keep.
        asked: Names that were swapped, once for each time a test asked for one.
        built: Names of the pruned backbones that were built.
        left: Names that were not swapped since they cannot be cut, with the reason.
    """

    mode: Mode = "unmodified"
    asked: list[str] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def start(self, mode: Mode) -> None:
        """Swap in this mode from now on, and forget what was counted."""
        self.mode, self.asked, self.built, self.left = mode, [], [], {}

    def keep_blocks(self, name: object, arguments: dict[str, Any]) -> int | None:
        """How many blocks to keep of what a test asks for; None where nothing is to be swapped."""
        from terratorch_simpler.results.plan import SOURCE

        if not isinstance(name, str) or name.startswith(f"{SOURCE}_"):
            return None
        depth, reason = full_depth(name, arguments)
        if depth is None:
            self.left[name] = reason
            return None
        self.asked.append(name)
        return {"unmodified": None, "third": max(1, depth // 3), "uncut": depth}[self.mode]

    def install(self) -> None:
        """Swap in what the registry and the factories are asked for."""
        from terratorch.registry import BACKBONE_REGISTRY, MODEL_FACTORY_REGISTRY

        build = self._of_registry(BACKBONE_REGISTRY.build)
        BACKBONE_REGISTRY.build = build  # type: ignore[method-assign]
        for name in FACTORIES:
            factory = MODEL_FACTORY_REGISTRY[name]
            factory.build_model = self._of_factory(factory.build_model)

    def _of_registry(self, build: Callable[..., Any]) -> Callable[..., Any]:
        from terratorch_simpler.backbones.pruned import PrunedBackbone

        @wraps(build)
        def swapped(name: str, *values: Any, **arguments: Any) -> Any:
            kept = self.keep_blocks(name, arguments)
            if kept is not None:
                name, arguments = f"simpler_{name}", {**arguments, "keep_blocks": kept}
            module = build(name, *values, **arguments)
            if isinstance(module, PrunedBackbone):
                self.built.append(name)
            return module

        return swapped

    def _of_factory(self, build_model: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(build_model)

        @wraps(build_model)
        def swapped(*values: Any, **arguments: Any) -> Any:
            try:
                bound = signature.bind(*values, **arguments)
            except TypeError:
                return build_model(*values, **arguments)
            name = bound.arguments.get("backbone")
            rest = bound.arguments.setdefault("kwargs", {})
            given = bound.arguments.get("backbone_kwargs") or {
                key.removeprefix("backbone_"): value
                for key, value in rest.items()
                if key.startswith("backbone_")
            }
            kept = self.keep_blocks(name, given)
            if kept is not None:
                bound.arguments["backbone"] = f"simpler_{name}"
                if bound.arguments.get("backbone_kwargs"):
                    bound.arguments["backbone_kwargs"] = {**given, "keep_blocks": kept}
                else:
                    bound.arguments["kwargs"] = {**rest, "backbone_keep_blocks": kept}
            return build_model(*bound.args, **bound.kwargs)

        return swapped


def full_depth(name: str, arguments: dict[str, Any]) -> tuple[int | None, str]:
    """Blocks of a full backbone, or None and why its depth cannot be cut."""
    from terratorch_simpler.backbones.backbone import Backbone
    from terratorch_simpler.backbones.build import sketch
    from terratorch_simpler.backbones.families import find_family

    depth, reason = usual_depth(name)
    if depth is None:
        return None, reason
    try:
        module = sketch(name, arguments)
    except Exception:
        # The test may well want this to fail: the pruned backbone has to fail like the full one.
        return depth, ""
    return Backbone(module, *find_family(module, label=name)).depth, ""


@cache
def usual_depth(name: str) -> tuple[int | None, str]:
    """Blocks of a full backbone that is built as usual, or None and why it cannot be cut."""
    from terratorch_simpler.backbones.build import canonical_name, find_source
    from terratorch_simpler.catalogue.look import entry_of

    name = canonical_name(name)
    if find_source(name) is None:
        return None, "not in the registry"
    entry = entry_of(name)
    return entry.depth, entry.reason or ""
