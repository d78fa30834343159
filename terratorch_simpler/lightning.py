"""Lightning, as every pass over tiles uses it: its trainer, its ranks, and how quiet it is."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from terratorch_simpler.messages import one_line

if TYPE_CHECKING:
    import torch
    from lightning.fabric.plugins.precision import Precision
    from lightning.pytorch import Callback, LightningModule


ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true")
"""In what a training step can be measured."""


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says of devices, seeds and workers; progress and errors stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def rank() -> int:
    """Number of this process, as Lightning learns it from the launcher; 0 where it is alone."""
    from lightning.pytorch.utilities import rank_zero_only

    number: int = getattr(rank_zero_only, "rank", 0)
    return number


def check_accelerator(accelerator: str) -> None:
    """Refuse what is none of :data:`ACCELERATORS`.

    Raises:
        ValueError: With the value.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(f"unknown accelerator {accelerator!r}: {_choices()}")


def check_keeps_weights(precision: str) -> None:
    """Refuse a precision that Lightning makes by turning the weights themselves into it.

    They would stay so afterwards, and their fingerprint would be that of no checkpoint.

    Raises:
        ValueError: With the value and the way out.
    """
    word = str(precision)
    stored = word == "64" or (word.endswith("-true") and word != "32-true")
    if stored or word.startswith("transformer-engine"):
        raise ValueError(
            f"precision {word} changes the weights of the backbone that is read: choose "
            "bf16-mixed, 16-mixed or 32-true"
        )


def _choices() -> str:
    return f"choose one of {', '.join(ACCELERATORS)}"


def find_device(accelerator: str) -> torch.device:
    """The device of an accelerator, in Lightning's words.

    Args:
        accelerator: ``auto`` (the accelerator that is there, or else the CPU), ``cpu``, ``gpu``,
            ``cuda`` or ``mps``.

    Raises:
        ValueError: If there is no such accelerator on this machine.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    check_accelerator(accelerator)
    try:
        with quiet_lightning():
            return Fabric(accelerator=accelerator, devices=1).device
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        raise ValueError(
            f"there is no accelerator {accelerator!r} on this machine ({one_line(error)}): "
            f"{_choices()}"
        ) from error


def check_precision(precision: str) -> None:
    """Refuse what is none of :data:`PRECISIONS`.

    Raises:
        ValueError: With the value.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")


def find_precision(precision: str, device: torch.device) -> Precision:
    """What computes in a precision of :data:`PRECISIONS`, as Lightning does when it trains.

    Raises:
        ValueError: If there is no such precision, or the device does not compute in it.
    """
    import torch
    from lightning.fabric.plugins.precision import HalfPrecision, MixedPrecision, Precision

    check_precision(precision)
    if precision == "32-true":
        return Precision()
    if precision == "16-mixed":
        if device.type == "cpu":
            raise ValueError("precision 16-mixed needs a GPU: on the CPU choose bf16-mixed")
        # A loss that is scaled little never overflows: no step is left out.
        scaler = torch.amp.GradScaler(device.type, init_scale=1.0)
        return MixedPrecision("16-mixed", device.type, scaler)
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"{torch.cuda.get_device_name(device)} does not compute in bfloat16: choose 16-mixed "
            f"or 32-true, not {precision}"
        )
    if precision == "bf16-true":
        return HalfPrecision("bf16-true")
    return MixedPrecision("bf16-mixed", device.type)


def run_pass(
    module: LightningModule,
    loop: Mapping[str, Any],
    *,
    accelerator: str = "auto",
    devices: int | str = 1,
    num_nodes: int = 1,
    precision: str = "32-true",
    bar: Callback | None = None,
) -> None:
    """Run the validation loop of a module once over tiles, in a trainer of its own.

    Args:
        module: What the batches are given to.
        loop: What ``Trainer.validate`` takes: ``dataloaders`` or ``datamodule``.
        accelerator: Lightning's ``accelerator``.
        devices: Lightning's ``devices``; more than one run under its DDP strategy.
        num_nodes: Lightning's ``num_nodes``.
        precision: Lightning's ``precision``; ``auto`` is ``bf16-mixed`` on CUDA devices that have
            it, else ``32-true``.
        bar: Shows how far it is; None for nothing.

    Raises:
        KeyboardInterrupt: Where the user stops it.
        ValueError: As :func:`check_keeps_weights`.
    """
    check_keeps_weights(precision)
    from lightning.pytorch import Trainer

    chosen: Any = _auto_precision(accelerator) if precision == "auto" else precision
    with quiet_lightning(), _interruptible():
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy="auto" if devices == num_nodes == 1 else "ddp",
            # Every process reads all tiles and runs those that are its own.
            use_distributed_sampler=False,
            precision=chosen,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            # Lightning's own counts batches, and calls every pass a validation.
            enable_progress_bar=False,
            callbacks=bar,
        )
        trainer.validate(module, verbose=False, **loop)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C out as what it is: Lightning ends the process with it, deaf to the next one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stopped:
        if not isinstance(stopped.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from stopped


def _auto_precision(accelerator: str) -> str:
    import torch

    cuda = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if cuda and torch.cuda.is_bf16_supported() else "32-true"
