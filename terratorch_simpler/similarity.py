"""Layer similarity: unbiased linear CKA, as a function and as a torchmetrics Metric.

Linear CKA (Kornblith et al., ICML 2019) compares two representations of the same samples
through their Gram matrices. The HSIC terms use the unbiased estimator of Song et al. (JMLR
2012) and are averaged over groups of samples before the ratio is taken (Nguyen, Raghu and
Kornblith, ICLR 2021), so that the result does not depend on how large the groups are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from terratorch_simpler.precision import full_float32

MIN_SAMPLES = 4
"""The unbiased estimator divides by n (n - 3), so a group needs at least this many samples."""
ROWS_AT_A_TIME = 64


def centered_grams(layers: Sequence[Tensor]) -> Tensor:
    """Gram matrices of several representations of the same samples, whose mean is taken off.

    Args:
        layers: L tensors of shape [n, d_l], d_l may differ; n is at least 4.

    Returns:
        Tensor of shape [L, n, n], in float32 (float64 where the features are).

    Raises:
        ValueError: If there are fewer than 4 samples or the layers disagree on how many.
    """
    n = layers[0].shape[0]
    if any(layer.ndim != 2 or layer.shape[0] != n for layer in layers):
        shapes = [tuple(layer.shape) for layer in layers]
        raise ValueError(
            f"every layer must be [samples, features] of the same samples, got {shapes}"
        )
    if n < MIN_SAMPLES:
        raise ValueError(
            f"unbiased CKA needs at least {MIN_SAMPLES} samples in a group, got {n}: "
            "use more tiles, or more tokens per tile"
        )
    dtype = torch.float64 if layers[0].dtype == torch.float64 else torch.float32
    grams = torch.empty(len(layers), n, n, dtype=dtype, device=layers[0].device)
    # Autocast would run the Gram products in bfloat16, which cannot hold them.
    with torch.autocast(device_type=grams.device.type, enabled=False), full_float32():
        for gram, layer in zip(grams, layers, strict=True):
            # U-centring ignores a shift of the features, float32 does not.
            features = layer.to(dtype) - layer.to(dtype).mean(dim=0)
            torch.mm(features, features.T, out=gram)
    return grams


def u_centered(grams: Tensor) -> Tensor:
    """U-centre Gram matrices in place.

    With ``K = X X^T``, zeroed diagonal, row sums ``r`` and total ``s``, the entry ``(i, j)`` of
    the U-centred matrix is ``K_ij - (r_i + r_j) / (n - 2) + s / ((n - 1)(n - 2))`` off the
    diagonal and 0 on it. The inner product of two such matrices over ``n (n - 3)`` equals
    ``[tr(KM) + 1'K1 1'M1 / ((n-1)(n-2)) - 2/(n-2) 1'KM1] / (n (n-3))``, the estimator of Song et
    al. (2012), without the cancellation between its three large terms.

    Args:
        grams: [L, n, n], which are overwritten.

    Returns:
        The same tensor.
    """
    n = grams.shape[1]
    grams.diagonal(dim1=1, dim2=2).zero_()
    rows = grams.sum(dim=2) / (n - 2)
    # Half of the total goes with the rows and half with the columns, which spares a pass.
    rows -= rows.sum(dim=1, keepdim=True) / (2 * (n - 1))
    grams -= rows[:, :, None]
    grams -= rows[:, None, :]
    grams.diagonal(dim1=1, dim2=2).zero_()
    return grams


def hsic_terms(layers: Sequence[Tensor]) -> Tensor:
    """Unbiased HSIC between all pairs of layers on one group of samples.

    Args:
        layers: L tensors of shape [n, d_l] for the same n >= 4 samples.

    Returns:
        Symmetric float64 tensor of shape [L, L], in the fourth power of the features' units.

    Raises:
        ValueError: As :func:`centered_grams`.
    """
    return hsic_of(centered_grams(layers))


def hsic_of(grams: Tensor) -> Tensor:
    """The same from centred Gram matrices [L, n, n], which are overwritten."""
    n = grams.shape[1]
    terms = []
    centred = u_centered(grams)
    for start in range(0, n, ROWS_AT_A_TIME):
        end = min(start + ROWS_AT_A_TIME, n)
        # A few rows at a time stay in the cache as float64; what lies right of the diagonal stands
        # below it again.
        for times, columns in ((1, slice(start, end)), (2, slice(end, n))):
            flat = _float64(centred[:, start:end, columns].flatten(1))
            terms.append(times * (flat @ flat.T))
    return torch.stack(terms).sum(dim=0) / (n * (n - 3))


def _float64(tensor: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none (Apple's)."""
    return tensor.cpu().double() if tensor.device.type == "mps" else tensor.double()


def cka_from_terms(terms: Tensor) -> Tensor:
    """CKA matrix from the HSIC terms of one or more groups.

    Args:
        terms: [groups, L, L] HSIC terms.

    Returns:
        [L, L] float64 matrix: symmetric, 1 on the diagonal. A layer that is constant over the
        samples has no similarity to any other (0).
    """
    return normalise_hsic(terms.double().sum(dim=0))


def normalise_hsic(hsic: Tensor) -> Tensor:
    """CKA from summed HSIC: ``hsic[i, j] / sqrt(hsic[i, i] hsic[j, j])``, 0 where that is 0 / 0.

    Args:
        hsic: float64 [..., L, L], symmetric.

    Returns:
        The same shape, 1 on the diagonal.
    """
    norm = hsic.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    scale = norm[..., :, None] * norm[..., None, :]
    similarity = torch.where(scale > 0, hsic / scale.clamp_min(1e-300), 0.0)
    similarity.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return similarity


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear CKA of two representations, with the unbiased HSIC estimator.

    Args:
        x: Tensor of shape [n, d1], one row a sample, n >= 4.
        y: Tensor of shape [n, d2], the same samples in the same order.

    Returns:
        Scalar float64 tensor. 1 for representations equal up to rotation and isotropic scale,
        around 0 for unrelated ones; the unbiased estimator can be slightly negative.

    Raises:
        ValueError: If the sample counts differ or are below 4.

    Example:
        >>> x = torch.randn(64, 8)
        >>> round(linear_cka(x, 3 * x).item(), 6)
        1.0
    """
    return cka_from_terms(hsic_terms([x, y])[None])[0, 1]


class GroupedMetric(Metric):
    """Keeps what every group of samples adds (its terms), whichever process it was of.

    States of several processes are concatenated by torchmetrics and put in order by the groups'
    numbers. What resampling takes for a unit is a group.

    Args:
        shape: Of the terms of a group.
        dtype: Likewise.
    """

    full_state_update = False
    is_differentiable = False
    terms: list[Tensor] | Tensor
    groups: list[Tensor] | Tensor

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._none = torch.empty(0, *shape, dtype=dtype)
        self._last: int | None = None
        self.add_state("terms", default=[], dist_reduce_fx="cat")
        self.add_state("groups", default=[], dist_reduce_fx="cat")

    def keep(self, terms: Tensor, group: int | None = None) -> None:
        """Keep the terms of a group.

        Args:
            terms: The terms.
            group: Its number, which orders the groups of several processes; by default how many
                this process had before. A number given again replaces this process's last group.
        """
        assert isinstance(self.terms, list)
        assert isinstance(self.groups, list)
        if group is not None and self._last == group:
            del self.terms[-1], self.groups[-1]
        self._last = len(self.groups) if group is None else group
        # Filled on the device: a copy from the host would wait for it.
        self.groups.append(torch.full((1,), self._last, device=self.device))
        self.terms.append(terms[None].to(self.device))

    def reset(self) -> None:
        """As torchmetrics does."""
        super().reset()
        self._last = None

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """As torchmetrics does, also where a process had no group."""
        if not len(self.terms) and self.distributed_available_fn():
            self.terms = [self._none.to(self.device)]
            self.groups = [torch.empty(0, dtype=torch.long, device=self.device)]
        super().sync(*args, **kwargs)

    def group_terms(self) -> Tensor:
        """Terms of every group so far, by their numbers: [groups, ...]."""
        order = dim_zero_cat(self.groups).argsort(stable=True)
        return dim_zero_cat(self.terms)[order]


class LayerSimilarity(GroupedMetric):
    """Linear CKA between all pairs of layers, accumulated group by group.

    One :meth:`update` takes one group of samples. The [L, L] terms of every group are kept: their
    sum gives the matrix, and resampling them gives its uncertainty.

    Args:
        num_layers: L, the number of representations in each group.
    """

    def __init__(self, num_layers: int, **kwargs: Any) -> None:
        super().__init__((num_layers, num_layers), torch.float64, **kwargs)
        self.num_layers = num_layers

    def update(self, layers: Sequence[Tensor], group: int | None = None) -> None:
        """Add one group of samples.

        Args:
            layers: ``num_layers`` tensors of shape [n, d_l] for the same n >= 4 samples.
            group: Its number, as :meth:`keep` takes it.

        Raises:
            ValueError: If the number of layers is another, or as :func:`centered_grams`.
        """
        if len(layers) != self.num_layers:
            raise ValueError(f"expected {self.num_layers} layers, got {len(layers)}")
        self.add_grams(centered_grams(layers), group)

    def add_grams(self, grams: Tensor, group: int | None = None) -> None:
        """As :meth:`update`, from centred Gram matrices [L, n, n], which are overwritten."""
        self.keep(hsic_of(grams), group)

    def compute(self) -> Tensor:
        """CKA matrix over everything seen so far: float64, [L, L]."""
        return cka_from_terms(self.group_terms())


class LayerAngles(Metric):
    """Mean cosine and angle between the same sample at every pair of layers.

    What the depth-pruning baselines measure: ``1 - cosine[l-1, l]`` is the block influence of
    ShortGPT (Men et al. 2024), ``angle[i, j]`` the angular distance of Gromov et al. (2024).
    All layers must have the same width.

    Args:
        num_layers: L, the number of representations in each group.
    """

    full_state_update = False
    is_differentiable = False
    cosine: Tensor
    angle: Tensor
    samples: Tensor

    def __init__(self, num_layers: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zeros = torch.zeros(num_layers, num_layers, dtype=torch.float64)
        self.add_state("cosine", default=zeros.clone(), dist_reduce_fx="sum")
        self.add_state("angle", default=zeros.clone(), dist_reduce_fx="sum")
        self.add_state("samples", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, layers: Sequence[Tensor]) -> None:
        """Add samples: ``num_layers`` tensors of shape [n, d], all of one width d."""
        samples = torch.stack(list(layers), dim=1).float()
        with torch.autocast(device_type=samples.device.type, enabled=False), full_float32():
            products = samples @ samples.transpose(1, 2)
            norms = products.diagonal(dim1=1, dim2=2).sqrt().clamp_min(1e-12)
            cosine = (products / (norms[:, :, None] * norms[:, None, :])).clamp(-1, 1)
        self.cosine += _float64(cosine).sum(dim=0).to(self.device)
        self.angle += _float64(cosine.acos() / torch.pi).sum(dim=0).to(self.device)
        self.samples += cosine.shape[0]

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean cosine in [-1, 1] and mean angle over pi in [0, 1], each float64 [L, L]."""
        return self.cosine / self.samples, self.angle / self.samples
