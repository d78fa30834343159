"""The bar of a pass: named for what is done, counted in tiles."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ipykernel.kernelspec import make_ipkernel_cmd
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from rich.console import Console
from rich.progress import Progress
from torch import nn

from terratorch_simpler.layers.features import layer_features
from terratorch_simpler.selection.select import SelectionWarning, select
from terratorch_simpler.tiles.progress import bar

TILES = [torch.randn(4, 6, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(3)]


def drawn(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the bar showed, one after the other."""
    return [line.strip() for line in capsys.readouterr().out.split("\r") if line.strip()]


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw at every step, however fast it is."""
    from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

    start = Tqdm.__init__

    def init(self: Any, *args: Any, **options: Any) -> None:
        start(self, *args, **options | {"mininterval": 0, "miniters": 1, "ncols": 80})

    monkeypatch.setattr(Tqdm, "__init__", init)


def test_a_selection_counts_tiles(
    tiny_prithvi: nn.Module, capsys: pytest.CaptureFixture[str], every_step: None
) -> None:
    with pytest.warns(SelectionWarning, match="too few groups"):
        select(tiny_prithvi, TILES, samples=10, accelerator="cpu", early_stop=False)
    shown = drawn(capsys)
    assert shown[0].startswith("Selecting:   0%|")
    assert any("4/10 tiles [" in line for line in shown)
    assert any("8/10 tiles [" in line for line in shown)
    # The pass ends within its third batch.
    assert any("10/10 tiles [" in line for line in shown)
    assert not any("Validation" in line for line in shown)


def test_a_pass_is_quiet_unless_asked(
    tiny_prithvi: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    layer_features(tiny_prithvi, TILES, accelerator="cpu")
    assert drawn(capsys) == []


def test_the_bar_goes_when_the_pass_fails(
    tiny_prithvi: nn.Module, capsys: pytest.CaptureFixture[str], every_step: None
) -> None:
    tiles = [*TILES[:1], torch.full((4, 6, 32, 32), torch.nan)]
    with pytest.raises(ValueError, match="NaN"):
        layer_features(tiny_prithvi, tiles, accelerator="cpu", progress=True)
    out = capsys.readouterr().out
    assert "Reading layers:" in out
    # Nothing is left on the line.
    assert out.split("\r")[-1].strip() == ""


def test_without_a_total_it_counts(capsys: pytest.CaptureFixture[str], every_step: None) -> None:
    with bar("Probing", None, "tiles") as shown:
        shown.update(8)
    assert any(line.startswith("Probing: 8 tiles [") for line in drawn(capsys))


def test_in_a_notebook_without_ipywidgets_it_is_text_and_does_not_warn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, every_step: None
) -> None:
    """As rich does where it sees the shell of a kernel."""

    class ZMQInteractiveShell:
        pass

    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setattr("builtins.get_ipython", ZMQInteractiveShell, raising=False)
    # A console of its own: one that was made before knows nothing of the kernel.
    with pytest.warns(UserWarning, match="ipywidgets"), Progress(console=Console()):
        pass
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with bar("Selecting", 8, "tiles") as shown:
            shown.update(8)
    assert any("8/8 tiles [" in line for line in drawn(capsys))


@pytest.fixture(scope="module")
def kernel() -> Iterator[BlockingKernelClient]:
    """A kernel of this environment that has no ipywidgets."""
    manager = KernelManager()
    manager._kernel_spec = KernelSpec(argv=make_ipkernel_cmd())
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    said(client, "import sys; sys.modules['ipywidgets'] = None")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def said(client: BlockingKernelClient, code: str) -> list[dict[str, Any]]:
    """What a cell shows."""
    shown: list[dict[str, Any]] = []

    def keep(message: dict[str, Any]) -> None:
        if message["msg_type"] in ("stream", "display_data", "error", "execute_result"):
            shown.append(message["content"])

    client.execute_interactive(code, output_hook=keep, timeout=120)
    return shown


@pytest.mark.slow
def test_in_a_kernel_without_ipywidgets_nothing_asks_for_them(kernel: BlockingKernelClient) -> None:
    # As some of TerraTorch's libraries do.
    assert said(kernel, "import terratorch_simpler; from tqdm.auto import tqdm") == []


@pytest.mark.slow
def test_in_a_kernel_the_bar_counts_and_goes(kernel: BlockingKernelClient) -> None:
    code = """
from terratorch_simpler.tiles.progress import bar
with bar("Selecting", 8, "tiles") as shown:
    shown.mininterval = 0
    shown.update(4)
"""
    streams = said(kernel, code)
    assert {stream["name"] for stream in streams} == {"stdout"}
    lines = "".join(stream["text"] for stream in streams).split("\r")
    assert any(line.startswith("Selecting:  50%|") and "4/8 tiles [" in line for line in lines)
    assert lines[-1].strip() == ""
