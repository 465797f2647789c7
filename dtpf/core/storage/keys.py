"""The one place that spells keys of the store; docs/store.md shows the same layout."""

from dataclasses import dataclass

CURRENT = "current.json"
HISTORY = "history.json"
RECEIPT = "receipt.json"


def pairs_key(dataset: str, digest: str) -> str:
    """Index of one data set: `datasets/<name>/<fingerprint>/pairs.parquet`."""
    return f"datasets/{dataset}/{digest}/pairs.parquet"


def images_prefix(dataset: str, digest: str) -> str:
    """Images that the project made itself (synthetic scenes)."""
    return f"datasets/{dataset}/{digest}/images"


def captions_prefix(dataset: str, digest: str) -> str:
    """Caption shards of one data set by one captioner."""
    return f"captions/{dataset}/{digest}"


def drafts_prefix(captions: str) -> str:
    """Shards of captions that are not complete; Parquet readers pass such a name over."""
    return f"{captions}/_drafts"


def draft_key(captions: str, shard: int) -> str:
    """One such shard."""
    return f"{drafts_prefix(captions)}/part-{shard:05d}"


def embeddings_prefix(dataset: str, digest: str) -> str:
    """Embedding shards of one data set by one captioner and one text encoder."""
    return f"embeddings/{dataset}/{digest}"


def shard_key(prefix: str, shard: int) -> str:
    """One Parquet shard below a captions or embeddings prefix."""
    return f"{prefix}/part-{shard:05d}.parquet"


@dataclass(frozen=True)
class StageKeys:
    """Keys of one stage: everything below one root that its fingerprint names."""

    stage: str
    digest: str
    root: str

    @property
    def receipt(self) -> str:
        """Written last: its presence means that the stage is complete."""
        return f"{self.root}/{RECEIPT}"

    @property
    def checkpoints(self) -> str:
        """Training state from which a killed run goes on."""
        return f"{self.root}/checkpoints"

    @property
    def bundle(self) -> str:
        """The trained network of a training stage."""
        return f"{self.root}/bundle"

    @property
    def logs(self) -> str:
        """TensorBoard event files."""
        return f"{self.root}/tensorboard"


def stage_keys(stage: str, digest: str, *, run: str, dataset: str) -> StageKeys:
    """Return where a stage's results lie.

    Index and captions belong to the data set and are shared by all runs over it; everything else
    lies below `runs/<run>/<stage>-<fingerprint>`.
    """
    shared = {"data": f"datasets/{dataset}/{digest}", "caption": captions_prefix(dataset, digest)}
    return StageKeys(stage, digest, shared.get(stage, f"runs/{run}/{stage}-{digest}"))


def search_prefix(run: str, digest: str) -> str:
    """Trials of one search; searches that differ by their budget alone share them."""
    return f"{searches_prefix(run)}{digest}"


def searches_prefix(run: str) -> str:
    """What the folders of all searches of a run begin with."""
    return f"runs/{run}/search-"


def teacher_outputs_prefix(sha256: str, digest: str) -> str:
    """Outputs of the teacher with these weights, for one sequence of crops."""
    return f"teacher_outputs/{sha256[:12]}/{digest}"


def teacher_outputs_key(prefix: str, shard: int) -> str:
    """One shard of a few crops below a teacher's prefix."""
    return f"{prefix}/part-{shard:05d}.safetensors"


def model_prefix(name: str, version: str) -> str:
    """A published bundle: immutable once written."""
    return f"models/{name}/{version}"


def current_key(name: str) -> str:
    """What Serve loads; changed by one atomic write."""
    return f"models/{name}/{CURRENT}"


def history_key(name: str) -> str:
    """Which versions have been current, in their order."""
    return f"models/{name}/{HISTORY}"


def evaluations_prefix(dataset: str) -> str:
    """Files of an evaluation of any methods, outside a pipeline."""
    return f"evaluations/{dataset}"


def probe_prefix(name: str) -> str:
    """Objects of one run of `dtpf doctor`, which deletes them at its end."""
    return f"doctor-{name}"
