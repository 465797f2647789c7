"""Records that cross stage borders: the data contract between jobs.

Each record is frozen; its Parquet schema stands beside it, so a reader in another
language sees the same columns as the code.
"""

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

TEXT_DIM = 512  # width of a CLIP ViT-B/32 text embedding; the hashed encoder has the same

SPLITS = ("train", "val", "test")
MODALITIES = ("visible", "infrared")

# What can be wrong with an image, per modality; reports keep the order. Those after MMAIF (Cao et
# al. 2025, section 3.1), which has no over-exposed visible images, and names stripes dark.
DEGRADATIONS: dict[str, tuple[str, ...]] = {
    "visible": (
        "low_light",
        "over_exposure",
        "noise",
        "motion_blur",
        "low_contrast",
        "gaussian_blur",
        "downsampling",
        "rain",
        "haze",
        "snow",
    ),
    "infrared": ("low_contrast", "noise", "stripes", "gaussian_blur", "downsampling"),
}
EVERY_DEGRADATION = tuple(
    f"{modality}/{kind}" for modality, kinds in DEGRADATIONS.items() for kind in kinds
)


@dataclass(frozen=True, order=True)
class Degradation:
    """One named defect of one image of a pair; severity is 0 (none) to 1 (extreme)."""

    modality: str
    kind: str
    severity: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in DEGRADATIONS.get(self.modality, ()):
            known = {m: list(kinds) for m, kinds in DEGRADATIONS.items()}
            raise ValueError(f"unknown degradation {self.modality}/{self.kind}; known: {known}")
        if not 0.0 <= self.severity <= 1.0:
            raise ValueError(f"severity of {self.kind} must lie in [0, 1], got {self.severity}")

    @property
    def name(self) -> str:
        """Modality and kind in one word, such as `infrared/noise`."""
        return f"{self.modality}/{self.kind}"


@dataclass(frozen=True)
class Pair:
    """One registered image pair of an index.

    `*_guide_uri` point to the clean images where they are known (synthetic or artificially
    degraded data): losses and scores then look at them instead of the degraded inputs.
    """

    pair_id: str
    split: str
    visible_uri: str
    infrared_uri: str
    height: int
    width: int
    visible_dtype: str
    infrared_dtype: str
    visible_sha256: str
    infrared_sha256: str
    visible_guide_uri: str | None = None
    infrared_guide_uri: str | None = None

    @property
    def guide_uris(self) -> tuple[str, str]:
        """URIs of the clean images, or of the inputs where no clean ones are known."""
        return (
            self.visible_guide_uri or self.visible_uri,
            self.infrared_guide_uri or self.infrared_uri,
        )


@dataclass(frozen=True)
class Caption:
    """What a captioner says of one pair. `status` is `ok`, or the kind of failure."""

    pair_id: str
    caption: str
    degradations: tuple[Degradation, ...]
    captioner: str
    revision: str
    prompt_version: str
    status: str = "ok"

    def as_row(self) -> dict[str, Any]:
        """Return plain types in the columns of CAPTION_SCHEMA."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Caption":
        """Inverse of `as_row`."""
        found = tuple(Degradation(**item) for item in row["degradations"])
        return cls(**{**row, "degradations": found})


PAIR_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("pair_id", "split")]
    + [pa.field(name, pa.string(), nullable=False) for name in ("visible_uri", "infrared_uri")]
    + [pa.field(name, pa.int32(), nullable=False) for name in ("height", "width")]
    + [pa.field(name, pa.string(), nullable=False) for name in ("visible_dtype", "infrared_dtype")]
    + [pa.field(f"{m}_sha256", pa.string(), nullable=False) for m in MODALITIES]
    + [pa.field(f"{m}_guide_uri", pa.string()) for m in MODALITIES]
)

CAPTION_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field(
            "degradations",
            pa.list_(
                pa.struct(
                    [
                        pa.field("modality", pa.string()),
                        pa.field("kind", pa.string()),
                        pa.field("severity", pa.float32()),
                    ]
                )
            ),
            nullable=False,
        ),
        pa.field("captioner", pa.string(), nullable=False),
        pa.field("revision", pa.string(), nullable=False),
        pa.field("prompt_version", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
    ]
)

EMBEDDING_SCHEMA = pa.schema(
    [
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32(), TEXT_DIM), nullable=False),
        pa.field("encoder", pa.string(), nullable=False),
    ]
)


def pairs_to_table(pairs: list[Pair]) -> pa.Table:
    """Return the index as one Arrow table in PAIR_SCHEMA."""
    return pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=PAIR_SCHEMA)


def pairs_from_table(table: pa.Table) -> list[Pair]:
    """Inverse of `pairs_to_table`."""
    return [Pair(**row) for row in table.to_pylist()]
