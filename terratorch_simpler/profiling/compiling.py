"""The model of every depth compiled, and what that takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import cast

import torch
from torch import nn

from terratorch_simpler.profiling.profiled import ProfiledModel
from terratorch_simpler.profiling.runs import Run


class Compiled:
    """Compiles the model of each depth once, and keeps it.

    Attributes:
        seconds: Time of the first runs of each depth, in which it was compiled.
    """

    def __init__(self, profiled: ProfiledModel) -> None:
        self.profiled = profiled
        self.seconds: dict[int, float] = {}
        self._modules: dict[int, nn.Module] = {}

    def module(self, depth: int) -> nn.Module:
        """The model of a depth; it is compiled when it first runs."""
        if depth not in self._modules:
            compiled = torch.compile(self.profiled.apart(depth))
            self._modules[depth] = cast(nn.Module, compiled)
        return self._modules[depth]

    def start(self, depth: int, run: Run, wait: Callable[[], None]) -> None:
        """Run something for the first time. Nothing compiled earlier is taken from the disk."""
        from torch._inductor.utils import fresh_inductor_cache

        if not self.seconds:
            # What the first compilation of a process loads belongs to no depth.
            with fresh_inductor_cache():
                torch.compile(torch.sin)(torch.ones(2))
        with fresh_inductor_cache():
            wait()
            start = perf_counter()
            run()
            wait()
        self.seconds[depth] = self.seconds.get(depth, 0.0) + perf_counter() - start


@contextlib.contextmanager
def many_compiled(depth: int) -> Iterator[None]:
    """Within it, models of this many depths can be compiled beside each other.

    They share their code, and torch would give up after some compilations of it.
    """
    from torch._dynamo import config

    # In training and in evaluation, with and without gradients.
    limit = 4 * depth + 8
    with config.patch(recompile_limit=limit, accumulated_recompile_limit=100 * limit):
        try:
            yield
        finally:
            torch.compiler.reset()
