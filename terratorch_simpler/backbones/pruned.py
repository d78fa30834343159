"""The class of pruned backbones: a subclass of the full one that keeps TerraTorch's contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from terratorch_simpler.backbones.outputs import Form, choose, form_of_pruned
from terratorch_simpler.results.plan import PruningPlan

if TYPE_CHECKING:
    from terratorch_simpler.backbones.families.family import Family


class PrunedBackbone(nn.Module):
    """What a pruned backbone is beside its own class.

    A pruned Prithvi is a ``PrunedPrithviViT``: a ``PrithviViT`` with fewer blocks, the same
    parameter names and a real ``forward``. A final norm stays where it was.

    Attributes:
        full_class: Class of the full backbone.
        kept_blocks: 0-based indices of the kept blocks in the full backbone.
        full_depth: Blocks of the full backbone.
        output_blocks: For each output, the position among the kept blocks it comes from.
        form: What the full backbone returns; None where only a run tells.
        plan: The plan that chose the blocks, or None where a number or list did.
    """

    full_class: ClassVar[type[nn.Module]]
    _family: ClassVar[type[Family[Any]]]
    _features: ClassVar[Callable[..., Any]]
    kept_blocks: list[int]
    full_depth: int
    output_blocks: list[int]
    # One that was pickled before it was known gives an output for each block.
    form: Form | None = "by block"
    plan: PruningPlan | None

    @property
    def out_channels(self) -> list[int]:
        """Channels of each output."""
        channels: list[int] = self.__dict__["_out_channels"]
        return channels

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kept blocks; outputs are of the number and shape that the full backbone gives.

        What else it returns, beside them or in their place, is handed on as it is.

        Raises:
            ValueError: If which block each output comes from cannot be told.
        """
        returned = self._features(*args, **kwargs)
        blocks = len(self.kept_blocks)
        form = self.form or form_of_pruned(returned, blocks)
        return choose(returned, form, blocks, self.output_blocks)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle by the class that was pruned: the pruned class is made when it is needed."""
        return empty_pruned, (self.full_class, self._family), self.__dict__


_CLASSES: dict[tuple[type[nn.Module], type[Family[Any]]], type[PrunedBackbone]] = {}


def _pruned_class(full: type[nn.Module], family: type[Family[Any]]) -> type[PrunedBackbone]:
    """The one pruned class of a backbone's class in a family."""
    if (full, family) not in _CLASSES:
        namespace = {
            "__module__": __name__,
            "__doc__": f"A pruned {full.__name__}.",
            "full_class": full,
            "_family": family,
            # A plain function: torch.export of older versions follows no other object's method.
            "_features": family.features,
            **family.methods,
        }
        _CLASSES[full, family] = type(f"Pruned{full.__name__}", (PrunedBackbone, full), namespace)
    return _CLASSES[full, family]


def empty_pruned(full: type[nn.Module], family: type[Family[Any]]) -> PrunedBackbone:
    """A pruned backbone of this class without modules or attributes, which are still to be set."""
    pruned = _pruned_class(full, family)
    return pruned.__new__(pruned)


def find_pruned(module: nn.Module) -> PrunedBackbone | None:
    """The pruned backbone of a task or model, inside wrappers as well (PEFT), or None."""
    return next((part for part in module.modules() if isinstance(part, PrunedBackbone)), None)
