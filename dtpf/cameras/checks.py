"""Warnings over many results: each kind told in full a few times, then counted."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from dtpf.cameras.alignment import Alignment, check_alignment
from dtpf.cameras.guards import Warned, check_result
from dtpf.cameras.prepare import Prepared
from dtpf.core.ops.pixels import FloatImage

_TOLD = 3  # of one kind


class Checks:
    """Gathers what deserves a look, and says each thing once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.texts: list[str] = []
        self.alignments: list[dict[str, Any]] = []

    def remark(self, texts: Iterable[str]) -> None:
        """Add remarks; one that was made before is not repeated."""
        for text in texts:
            self.counts["remark"] += text not in self.texts
            if text not in self.texts:
                self.texts.append(text)

    def result(self, picture: FloatImage, prepared: Prepared, name: str) -> None:
        """Check one fused picture against its sources and keep its warnings."""
        for warned in check_result(picture, prepared.visible, prepared.infrared, name):
            self._add(warned)

    def alignment(self, prepared: Prepared, name: str) -> None:
        """Measure whether a pair lies on each other."""
        found: Alignment = check_alignment(prepared.visible, prepared.infrared)
        facts = {"name": name, "score": found.score, "offset": found.offset, "sure": found.sure}
        self.alignments.append(facts)
        if found.off:
            remedy = "calibrate the cameras with dtpf calibrate"
            self._add(Warned("misaligned", f"{name}: {found}; {remedy}"))

    @property
    def lines(self) -> list[str]:
        """All that is to be said, with counts of what was not told in full."""
        more = [
            f"{count - _TOLD} more warnings of kind {kind}"
            for kind, count in self.counts.items()
            if kind != "remark" and count > _TOLD
        ]
        return [*self.texts, *more]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON types."""
        return {
            "warnings": self.lines,
            "counts": dict(self.counts),
            "alignment": self.alignments,
        }

    def _add(self, warned: Warned) -> None:
        self.counts[warned.kind] += 1
        if self.counts[warned.kind] <= _TOLD:
            self.texts.append(warned.text)
