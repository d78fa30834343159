"""A model as a repository of a model hub: ``config.json``, ``model.safetensors`` and a card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import Tensor, nn

from terratorch_simpler.exporting.card import TAGS, Parent, render_card
from terratorch_simpler.exporting.checkpoint import import_task
from terratorch_simpler.exporting.load import build_bare
from terratorch_simpler.results.deployment import Deployment


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="terratorch-simpler", tags=[*TAGS]):
    """The model of a TerraTorch task, which a folder or a repository of the hub holds.

    ``HubModel.from_pretrained(folder)`` loads one that ``terratorch-simpler export --to
    safetensors`` wrote, and ``push_to_hub("user/name")`` uploads it.

    Args:
        task: Path of the task's class.
        arguments: Arguments of that class; its model is built without pre-trained weights.
        deployment: What the model expects and gives, as plain data.
        parent: What it was fine-tuned from, likewise.

    Attributes:
        model: The model that TerraTorch built.
        deployment: What it expects and gives.
        parent: What it was fine-tuned from.
    """

    def __init__(
        self,
        task: str,
        arguments: dict[str, Any],
        deployment: dict[str, Any],
        parent: dict[str, Any],
    ) -> None:
        super().__init__()
        built: Any = build_bare(import_task(task, "config.json"), arguments, "config.json")
        self.model: Any = built.model
        self.deployment = Deployment.model_validate(deployment)
        self.parent = Parent(**parent)

    def forward(self, images: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Run the model.

        Args:
            images: [B, C, H, W] or [B, C, T, H, W], or those by modality, normalised.

        Returns:
            Logits [B, classes, H, W] of a segmentation, values [B, H, W] of a regression, logits
            [B, classes] of a classification.
        """
        output: Tensor = self.model(images).output
        return output

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """The card, from what the model itself says."""
        return ModelCard(render_card(self.deployment, self.parent))
