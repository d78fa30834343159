"""Probing the backbone of a task on its own labelled tiles."""

from __future__ import annotations

import rasterio
from lightning.pytorch import LightningDataModule

from terratorch_simpler.messages import Reporter
from terratorch_simpler.probing.labels import KINDS, Labels
from terratorch_simpler.probing.probe import ProbeSettings, run_probe
from terratorch_simpler.results.plan import PruningPlan
from terratorch_simpler.results.probe import Probe
from terratorch_simpler.task.build import Task

LABELS_OPENED = 16
"""Label files of a split that are looked at before the pass."""


def check_task(task: Task) -> Labels:
    """Refuse a task that cannot be probed; gives what its labels are.

    Raises:
        ValueError: With the reason.
    """
    path = task.config.path
    if task.labels is None:
        raise ValueError(
            f"{path} has the task {task.task}, whose labels a probe cannot read: it reads those of "
            f"{', '.join(KINDS)}"
        )
    if task.datamodule is None:
        raise ValueError(f"{path} has no data: a probe needs its labelled tiles")
    if task.labels.kind == "segmentation":
        _check_label_files(task.datamodule)
    return task.labels


def _check_label_files(datamodule: LightningDataModule) -> None:
    """Refuse label files whose own nodata TerraTorch would make a class, which no class is.

    It reads such pixels as NaN, which become the least of all integers.
    """
    datamodule.setup("fit")
    for name in ("train_dataset", "val_dataset"):
        dataset = getattr(datamodule, name, None)
        files = getattr(dataset, "segmentation_mask_files", None) or []
        if getattr(dataset, "no_label_replace", None) is not None:
            continue
        for file in files[:LABELS_OPENED]:
            with rasterio.open(file) as labels:
                nodata = labels.nodata
                if nodata is not None and (labels.read(1) == nodata).any():
                    raise ValueError(
                        f"the labels {file} hold {nodata:g} and declare it as nodata, which "
                        "TerraTorch makes a class that does not exist: set no_label_replace in "
                        "data.init_args to the task's ignore_index"
                    )


def probe_task(
    task: Task, settings: ProbeSettings, plan: PruningPlan | None, reporter: Reporter
) -> Probe:
    """Probe the backbone of a config on the data of its datamodule.

    Raises:
        ValueError: If it has no data, or its task no labels that a probe reads.
    """
    labels = check_task(task)
    assert task.datamodule is not None
    reporter.say(f"Probing {task.backbone.depth} blocks of {task.backbone.label} ...")
    return run_probe(task.backbone, task.datamodule, None, labels, settings, plan)


def probe_to_decide(task: Task, settings: ProbeSettings, reporter: Reporter) -> Probe:
    """As :func:`probe_task`, for labels that decide.

    Raises:
        ValueError: As there, or if they say no depth.
    """
    found = probe_task(task, settings, None, reporter)
    if found.said is not None:
        return found
    if settings.share is None:
        raise ValueError(
            "fewer than two validation tiles are labelled: no bootstrap is possible, and without "
            "one there is no standard error to decide by. Use more, or name the share of the best "
            f"score to keep ({reporter.option('share', 0.98)})"
        )
    raise ValueError(
        f"the best {found.metric} of any depth is {found.whole:.3f}, of which there is no share: "
        f"leave out {reporter.option('share')}, or choose another criterion"
    )
