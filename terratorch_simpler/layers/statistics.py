"""What one pass shows of every layer beside its similarity to the others, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from terratorch_simpler.layers.sampler import PARTNERS
from terratorch_simpler.precision import full_float32
from terratorch_simpler.similarity import GroupedMetric

NEIGHBOURS = 10
"""Nearest samples that are compared between a layer and the one before."""
QUERIES = 64
"""Samples of a group whose nearest others are looked for, among all of it."""
STATISTICS = ("spatial_contrast", "participation", "rankme", "neighbours")
"""What is measured of every layer, in the order of the metric's state."""


def spatial_contrast(anchors: Tensor, partners: Tensor) -> Tensor:
    """How much more alike tokens side by side are than tokens half a tile apart.

    Tokens are centred over the group and normalised; the contrast is the mean cosine between
    tokens side by side minus that between tokens half a tile apart.

    Args:
        anchors: [layers, tiles, anchors, width].
        partners: [layers, tiles, anchors, 4, width], as
            :func:`~terratorch_simpler.layers.sampler.partners` names them.

    Returns:
        [layers], from -2 to 2; 0 where a layer is constant.
    """
    every = torch.cat([anchors[:, :, :, None], partners], dim=3)
    every = every - every.mean(dim=(1, 2, 3), keepdim=True)
    # Products of an anchor and its partners, all at once: less than a third of normalising first.
    products = every @ every.transpose(-1, -2)
    norms = products.diagonal(dim1=-2, dim2=-1).sqrt().clamp_min(1e-12)
    cosine = products[..., 0, 1:] / (norms[..., :1] * norms[..., 1:])
    means: Tensor = cosine.mean(dim=(1, 2))
    half = PARTNERS // 2
    return means[:, :half].mean(dim=1) - means[:, half:].mean(dim=1)


def participation_ratio(grams: Tensor) -> Tensor:
    """Number of directions over which samples spread: ``tr(K)^2 / tr(K^2)``.

    Args:
        grams: [layers, n, n], centred.

    Returns:
        [layers], from 1 to n - 1; 0 where a layer is constant.
    """
    trace = grams.diagonal(dim1=1, dim2=2).sum(dim=1)
    return _ratio(trace**2, grams.square().sum(dim=(1, 2)))


def rank_me(grams: Tensor) -> Tensor:
    """RankMe (Garrido et al., ICML 2023): the exponential of the entropy of singular values.

    Args:
        grams: [layers, n, n], centred.

    Returns:
        [layers], from 1 to n; 0 where a layer is constant.
    """
    # On the CPU: small matrices, and not every device has eigenvalues.
    values = torch.linalg.eigvalsh(grams.cpu())
    # What is less than the rounding of the largest has no direction of its own.
    rounding = torch.finfo(values.dtype).eps * values.shape[1] * values[:, -1:]
    values = torch.where(values > rounding, values, 0.0).sqrt()
    total = values.sum(dim=1)
    shares = values / total.clamp_min(1e-30)[:, None]
    entropy = torch.special.entr(shares).sum(dim=1)
    return torch.where(total > 0, entropy.exp(), 0.0).to(grams.device)


def neighbour_overlap(grams: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """Share of a sample's nearest others that it had in the layer before (Valeriani et al. 2023).

    Of every few samples one is asked, so that some 64 of a group are.

    Args:
        grams: [layers, n, n], centred.
        neighbours: How many are compared; fewer where there are not as many others.

    Returns:
        [layers], from 0 to 1; 1 for the first layer, before which there is none.
    """
    samples = grams.shape[1]
    asked = torch.arange(0, samples, max(1, samples // QUERIES), device=grams.device)
    # Squared distance less the sample's own norm, which changes no order.
    distances = grams.diagonal(dim1=1, dim2=2)[:, None, :] - 2 * grams[:, asked]
    distances.scatter_(2, asked[None, :, None].expand(len(distances), -1, 1), torch.inf)
    count = min(neighbours, samples - 1)
    nearest = distances.topk(count, dim=2, largest=False).indices
    member = torch.zeros_like(distances, dtype=torch.bool).scatter_(2, nearest, True)
    shared = (member[1:] & member[:-1]).sum(dim=(1, 2)) / (len(asked) * count)
    return torch.cat([shared.new_ones(1), shared])


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below.clamp_min(1e-30), 0.0)


class LayerStatistics(GroupedMetric):
    """Statistics of every layer, a value a group.

    Their means over groups are the statistics, and resampling groups gives their uncertainty.
    RankMe costs more than the rest together, and is measured of the first group alone.

    Args:
        num_layers: L, the number of layers in each group.
    """

    def __init__(self, num_layers: int, **kwargs: Any) -> None:
        super().__init__((len(STATISTICS), num_layers), torch.float32, **kwargs)
        self.num_layers = num_layers

    def update(self, grams: Tensor, anchors: Tensor, partners: Tensor, group: int) -> None:
        """Add one group of samples.

        Args:
            grams: Centred Gram matrices of its samples, [layers, n, n].
            anchors: As :func:`spatial_contrast`.
            partners: Likewise; without anchors there is no contrast.
            group: Its number. A number given again replaces the last group.
        """
        nothing = torch.full((self.num_layers,), torch.nan, device=grams.device)
        with torch.autocast(device_type=grams.device.type, enabled=False), full_float32():
            found = torch.stack(
                [
                    spatial_contrast(anchors, partners) if anchors.numel() else nothing,
                    participation_ratio(grams),
                    rank_me(grams) if group == 0 else nothing,
                    neighbour_overlap(grams),
                ]
            )
        self.keep(found, group)

    def group_values(self) -> Mapping[str, Tensor]:
        """Values of every group by statistic, in the order of the groups: float32 [groups, L]."""
        return dict(zip(STATISTICS, self.group_terms().unbind(dim=1), strict=True))

    def compute(self) -> dict[str, Tensor]:
        """Means over the groups that have a value: [L] by statistic, NaN where none has."""
        return {name: values.nanmean(dim=0) for name, values in self.group_values().items()}
