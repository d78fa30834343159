"""BigEarthNet v2 through torchgeo, and mean average precision beside TerraTorch's own metrics.

Clasen, Hackel, Burgert, Sumbul, Demir, Markl, *reBEN: Refined BigEarthNet Dataset for Remote
Sensing Image Analysis*, arXiv 2407.03653, 2024.
"""

from __future__ import annotations

from pathlib import Path

from terratorch.tasks import MultiLabelClassificationTask
from torch.utils.data import Dataset
from torchgeo.datasets import BigEarthNetV2, DatasetNotFoundError
from torchmetrics.classification import MultilabelAveragePrecision

from studies.paper.datamodule import PaperDataModule, Sample, Split, Tiles, channels_of

BANDS = [
    "COASTAL_AEROSOL", "BLUE", "GREEN", "RED", "RED_EDGE_1", "RED_EDGE_2", "RED_EDGE_3",
    "NIR_BROAD", "NIR_NARROW", "WATER_VAPOR", "SWIR_1", "SWIR_2",
]  # fmt: skip
"""B01 to B12 without B10, in torchgeo's order."""


class BigEarthNet(PaperDataModule):
    """The Sentinel-2 patches of BigEarthNet v2 with their 19 labels."""

    def open(self, split: Split) -> Tiles:
        """The patches of a split."""
        return Patches(self.root, split, self.bands)


class Patches(Dataset[Sample]):
    """Patches of 120 px of one split; torchgeo's, without the map that no task of ours takes.

    Args:
        root: Folder of the data set.
        split: Which of the three.
        bands: Bands to give, of :data:`BANDS`.

    Raises:
        FileNotFoundError: If the data set is not complete.
        ValueError: If there is no such band.
    """

    def __init__(self, root: Path, split: Split, bands: list[str]) -> None:
        self.channels = channels_of(bands, BANDS)
        try:
            self.patches = BigEarthNetV2(root=root, split=split, bands="s2")
        except DatasetNotFoundError as error:
            raise FileNotFoundError(
                f"torchgeo finds no BigEarthNet v2 in {root}: it wants the folders BigEarthNet-S1, "
                "BigEarthNet-S2 and Reference_Maps, and metadata.parquet, or their archives"
            ) from error

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Sample:
        sample = self.patches[index]
        return {
            "image": sample["image"][self.channels],
            "label": sample["label"],
            "filename": str(self.patches.metadata_df.loc[index, "patch_id"]),
        }


class MultiLabelTask(MultiLabelClassificationTask):
    """TerraTorch's task, with macro mean average precision when validating and testing."""

    def configure_metrics(self) -> None:
        """As TerraTorch's, and one more."""
        super().configure_metrics()
        for metrics in (self.val_metrics, *self.test_metrics):
            precision = MultilabelAveragePrecision(
                num_labels=self.hparams["model_args"]["num_classes"], average="macro"
            )
            metrics.add_metrics({"Multilabel_Average_Precision": precision})
