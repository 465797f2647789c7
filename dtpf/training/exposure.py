"""Fits what tells over-exposed scenes, on whole training images: crops of them do not tell.

Legend: N = examples, K = means of an image.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dtpf.core.models.exposure import MEANS, Exposure
from dtpf.core.records import DEGRADATIONS, Degradation
from dtpf.data.dataset import PairDataset
from dtpf.data.degrade import apply, clash, draw_degradations

IMAGES = 200  # at most: there is little to learn, and each takes a fifth of a second
_SHORT = 240  # pixels of the shorter side, about, that are enough
_EACH = 14  # examples of each image
_MILDEST, _SEVEREST = 0.2, 1.0
_EXPOSED = ("visible", "over_exposure")
_VISIBLE = tuple(("visible", kind) for kind in DEGRADATIONS["visible"])
_OTHERS = tuple("/".join(name) for name in _VISIBLE if name != _EXPOSED)
_TOGETHER = tuple("/".join(name) for name in _VISIBLE if not clash(name, _EXPOSED))
_SEVERITY_COUNTS = 20.0  # beside the cross entropy
_SMALL = 1e-3  # weight of the squared weights: means of neighbouring levels are much alike
_ROUNDS = 200


def fit_exposure(exposure: Exposure, dataset: PairDataset, seed: int) -> None:
    """Fit to the clean images of a dataset, as they are and with degradations, in place.

    Logistic regression says whether an image is over-exposed, linear regression how severely.
    Nothing is written if the images cannot be read.

    Args:
        exposure: whose weights are set.
        dataset: training pairs; of more than 200, so many spread over them.
        seed: of the degradations.
    """
    found = [
        (exposure.means(image), severity)
        for index in _chosen(len(dataset))
        for image, severity in _examples(dataset, index, seed)
    ]
    means, severities = zip(*found, strict=True)
    weight, bias = _regressed(torch.cat(means), torch.tensor(severities))
    exposure.weight.copy_(weight)
    exposure.bias.copy_(bias)


def _chosen(count: int) -> list[int]:
    return np.linspace(0, count - 1, min(IMAGES, count)).round().astype(int).tolist()


def _examples(dataset: PairDataset, index: int, seed: int) -> Iterator[tuple[Tensor, float]]:
    """Yield visible images (1, 3, H, W), some of their pixels, and how over-exposed each is."""
    images = dataset[index]
    step = max(2, min(images.infrared_guide.shape[1:]) // _SHORT)
    seen = images.visible_guide[:, ::step, ::step].permute(1, 2, 0).numpy()
    heat = images.infrared_guide[0, ::step, ::step].numpy()
    rng = np.random.default_rng((seed, index, 3))
    for number in range(_EACH):
        severity = float(rng.uniform(_MILDEST, _SEVEREST)) if number % 2 else 0.0
        drawn = draw_degradations(rng, names=_TOGETHER if severity else _OTHERS)
        chosen = [] if rng.random() < 0.5 else [*drawn]
        chosen += [Degradation(*_EXPOSED, severity)]
        changed, _ = apply((seen, heat), chosen, rng)
        stored = np.round(changed * 255) / 255
        yield torch.from_numpy(stored).permute(2, 0, 1)[None], severity


def _regressed(means_NK: Tensor, severities_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (2, K) and biases (2,) of logit and severity."""
    mean, deviation = means_NK.mean(dim=0), means_NK.std(dim=0) + 1e-3
    standard_NK = (means_NK - mean) / deviation
    exposed_N = (severities_N > 0).float()
    weight = torch.zeros(2, MEANS, requires_grad=True)
    bias = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS((weight, bias), max_iter=_ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logit_N, severity_N = (standard_NK @ weight.T + bias).unbind(dim=1)
        told = F.binary_cross_entropy_with_logits(logit_N, exposed_N)
        off = (exposed_N * (severity_N - severities_N).square()).mean()
        value = told + _SEVERITY_COUNTS * off + _SMALL * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    scaled = weight.detach() / deviation
    return scaled, bias.detach() - scaled @ mean
