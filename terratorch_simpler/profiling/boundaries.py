"""Where one part of a model ends and the next begins, forward and backward: hooks that tell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from terratorch_simpler.profiling.profiled import ProfiledModel
from terratorch_simpler.profiling.runs import tensors_in
from terratorch_simpler.results.parts import BLOCKS, DECODER, HEAD, NECKS, NORM, PATCH


@dataclass(frozen=True)
class Boundaries:
    """The modules at which parts begin and end.

    Attributes:
        whole: All of the model.
        around: The backbone and what is wrapped around it (LoRA, several dates), outermost first.
        blocks: The modules that are run of each block, in order.
        decoder: The decoder, in the model of a task.
    """

    whole: nn.Module
    around: Sequence[nn.Module]
    blocks: Sequence[Sequence[nn.Module]]
    decoder: nn.Module | None

    @classmethod
    def of(cls, profiled: ProfiledModel) -> Self:
        """Those of a model at full depth, which is in use afterwards."""
        backbone = profiled.backbone
        whole = profiled.pruned(backbone.depth)
        names = profiled.place.split(".") if profiled.place else []
        around = [whole.get_submodule(".".join(names[:i])) for i in range(1, len(names) + 1)]
        decoder = getattr(whole, "decoder", None) if around else None
        return cls(whole, around or [whole], backbone.called_blocks, decoder)

    @property
    def names(self) -> tuple[str, ...]:
        """The parts that there are, in the order in which they run."""
        behind = (NECKS, DECODER, HEAD) if self.decoder is not None else (NECKS,)
        return (PATCH, BLOCKS, NORM, *(behind if self.around[0] is not self.whole else ()))

    @contextlib.contextmanager
    def watched(
        self, forward: Callable[[str], None], backward: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Within it, every part that a pass of the model enters is told.

        What is there before the first block counts as patch embedding, in each pass of a backbone
        that is run several times; what runs between two of the other parts counts to the earlier.

        Args:
            forward: Called with a part when the forward pass enters it; a pass begins in the first.
            backward: The same of the backward pass, which begins in the last.
        """
        hooks = _Hooks(forward, backward)
        first, last = self.blocks[0][0], self.blocks[-1][-1]
        handles = [first.register_forward_pre_hook(hooks.entering(PATCH, BLOCKS), with_kwargs=True)]
        handles += [
            called[-1].register_forward_hook(hooks.leaving(BLOCKS, None))
            for called in self.blocks[:-1]
        ]
        handles.append(last.register_forward_hook(hooks.leaving(BLOCKS, NORM)))
        behind = NECKS if NECKS in self.names else None
        for module in self.around:
            handles.append(
                module.register_forward_pre_hook(hooks.entering(None, PATCH), with_kwargs=True)
            )
            then = behind if module is self.around[0] else None
            handles.append(module.register_forward_hook(hooks.leaving(NORM, then)))
        if self.decoder is not None:
            handles += [
                self.decoder.register_forward_pre_hook(
                    hooks.entering(NECKS, DECODER), with_kwargs=True
                ),
                self.decoder.register_forward_hook(hooks.leaving(DECODER, HEAD)),
            ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Hooks:
    """Hooks on modules, and from them on the graph of the backward pass.

    The backward pass runs what the forward pass recorded in reverse order, the last first. So it
    enters a part where it reaches the first of what that part recorded of the tensors it hands on.
    """

    def __init__(
        self, forward: Callable[[str], None], backward: Callable[[str], None] | None
    ) -> None:
        self.forward, self.backward = forward, backward
        self.recorded = -1

    def entering(self, before: str | None, after: str) -> Callable[..., None]:
        """A hook that runs before a module: one part ends with what it is given."""

        def hook(_module: nn.Module, inputs: object, named: object) -> None:
            if before is not None:
                self._ends(before, (inputs, named))
            self.forward(after)

        return hook

    def leaving(self, before: str, after: str | None) -> Callable[..., None]:
        """A hook that runs after a module: one part ends with what it gives."""

        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            self._ends(before, output)
            if after is not None:
                self.forward(after)

        return hook

    def _ends(self, part: str, given: object) -> None:
        backward = self.backward
        if backward is None:
            return
        nodes: list[Any] = [t.grad_fn for t in tensors_in(given) if t.grad_fn is not None]
        # What an earlier part hands through this one belongs to the earlier.
        mine = {node._sequence_nr(): node for node in nodes if node._sequence_nr() > self.recorded}
        for node in mine.values():
            node.register_prehook(lambda *_: backward(part))
        self.recorded = max([self.recorded, *mine])
