"""What layers know of a whole image, and how the tiles of one image come to share it.

Channel attention weighs channels by their products over all pixels. A tile of a large image has
other products than the whole, so tiles on their own differ in tone from each other and from one
pass over everything (Chu et al., ECCV 2022, describe it for Restormer). The same holds for what is
known of the light of a scene (`dtpf.core.models.exposure`) and of a sensor's stripes
(`dtpf.core.models.amplifiers`). Here a first pass adds up the sums of
tiles, and a second uses them for every tile.
Legend: B = batch, C = channels, K = quantities.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn


class ChannelMoments(NamedTuple):
    """Sums over the pixels of an image from which channel attention follows; they add up."""

    product_BCC: Tensor
    query_BC: Tensor
    key_BC: Tensor


class BrightnessMoments(NamedTuple):
    """Sums over cells of an image from which its exposure is judged; they add up."""

    sums_BK: Tensor
    cells_B: Tensor


class LineShares(NamedTuple):
    """How far an image's columns and rows are freed of their lines; not a sum, but told before."""

    shares_B2: Tensor


Moments = TypeVar("Moments", ChannelMoments, BrightnessMoments, LineShares)


def total(moments: Sequence[Moments]) -> Moments:
    """Return the sums over several sets of pixels together."""
    return _like(moments[0], (torch.stack(part).sum(dim=0) for part in zip(*moments, strict=True)))


def _like(moments: Moments, parts: Iterable[Tensor]) -> Moments:
    return type(moments)(*parts)


_View = Callable[[nn.Module, Any], Any]
_view: ContextVar[_View | None] = ContextVar("moments_view", default=None)


def as_seen(layer: nn.Module, moments: Moments) -> Moments:
    """Return the moments that `layer` shall use: those given, unless `ImageMoments` is at work."""
    if torch.compiler.is_compiling() or (view := _view.get()) is None:
        return moments
    seen: Moments = view(layer, moments)
    return seen


class ImageMoments:
    """The moments of every layer that has some, summed over tiles of one image."""

    def __init__(
        self,
        estimate: "ImageMoments | None" = None,
        told: Mapping[nn.Module, NamedTuple] | None = None,
    ) -> None:
        """Begin empty; while moments are collected, the layers use the `estimate` if there is one.

        What a layer sees depends on what those before it did, so a better estimate there gives
        better sums here. Layers that are `told` their moments use those in any case.
        """
        self._estimate = estimate
        self._told = dict(told or {})
        self._sums: dict[nn.Module, Any] = {}

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Add up what the layers see; every image of a batch counts as a tile of the same image."""
        with _viewed(self._collect):
            yield

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the layers use the sums in place of their own moments."""
        with _viewed(self._apply):
            yield

    def _collect(self, layer: nn.Module, moments: Moments) -> Moments:
        if layer in self._told:
            return self._apply(layer, moments)
        found = _like(moments, (part.sum(dim=0, keepdim=True) for part in moments))
        known = self._sums.get(layer)
        self._sums[layer] = found if known is None else total([known, found])
        return moments if self._estimate is None else self._estimate._apply(layer, moments)

    def _apply(self, layer: nn.Module, moments: Moments) -> Moments:
        sums = self._told.get(layer) or self._sums.get(layer, moments)
        pairs = zip(sums, moments, strict=True)
        return _like(moments, (shared.expand_as(own) for shared, own in pairs))


@contextmanager
def _viewed(view: _View) -> Iterator[None]:
    token = _view.set(view)
    try:
        yield
    finally:
        _view.reset(token)
