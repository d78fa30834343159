"""The trainer of a pass, stopped by the user."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from terratorch_simpler.layers.features import layer_features


def test_ctrl_c_in_a_pass_comes_out_as_what_it_is(tiny_prithvi: nn.Module) -> None:
    """Lightning would end the process, and ignore the next."""

    def tiles() -> Iterator[Tensor]:
        yield torch.randn(2, 6, 32, 32)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        layer_features(tiny_prithvi, tiles(), accelerator="cpu")
    assert signal.getsignal(signal.SIGINT) is before


def test_another_end_of_the_process_stays_one(tiny_prithvi: nn.Module) -> None:
    def tiles() -> Iterator[Tensor]:
        yield torch.randn(2, 6, 32, 32)
        raise SystemExit(3)

    with pytest.raises(SystemExit) as stopped:
        layer_features(tiny_prithvi, tiles(), accelerator="cpu")
    assert stopped.value.code == 3
