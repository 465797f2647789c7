"""What text gives a teacher where nothing but the text tells what is wanted.

    python benchmarks/text_alone.py [--steps N] [--seeds N] [--val N] [--json]

The control of `paper_claims.py`, whose texts name only what an image shows by itself. Here every
other degraded pair is told to stay as it is: it loses its clean originals, so losses and scores
look at the degraded images, and its caption says that both are clean. What a network sees is the
same in both halves, what it should make of it is not. A teacher without text can only guess; one
that reads its text must have a clearly lower loss on validation pairs, or texts do not reach it.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace

import pyarrow as pa
from paper_claims import Scores, compare, specs, train
from prepared import captioned

from dtpf.caption.embedder import Embedder
from dtpf.caption.shards import captions_table
from dtpf.caption.text import compose_caption
from dtpf.core.config import apply_overrides
from dtpf.core.records import Caption, Pair, pairs_to_table
from dtpf.core.storage.keys import shard_key
from dtpf.core.storage.store import Store
from dtpf.pipeline.plan import Plan
from dtpf.recipes import recipe

COMPARED = ("teacher", "teacher_without_text")
PAIRS, CAPTIONS, EMBEDDINGS = "told/pairs.parquet", "told/captions", "told/embeddings"


def main() -> None:
    """Parse, train, print; exit code 1 where text does not help for every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--val", type=int, default=24, help="validation pairs")
    options = parser.parse_args()
    settings = [f"data.synthetic.val={options.val}", "data.synthetic.degraded_fraction=1"]
    settings += [f"teacher.train.steps={options.steps}"]
    with tempfile.TemporaryDirectory() as scratch:
        plan = captioned(apply_overrides(recipe("tiny_cpu"), settings), Store(scratch))
        report = {"steps": options.steps, **measure(plan, options.seeds)}
    print(json.dumps(report, indent=2) if options.json else report)
    sys.exit(0 if max(report["loss_change_percent"]) < 0 else 1)


def measure(plan: Plan, seeds: int) -> dict:
    """Train both teachers for every seed and compare them."""
    told = tell(plan)
    keys = {"pairs": PAIRS, "captions": CAPTIONS, "embeddings": EMBEDDINGS}
    scores: Scores = {name: [] for name in COMPARED}
    for seed in range(seeds):
        every = specs(plan, seed)
        for name in COMPARED:
            scores[name].append(train(every[name].model_copy(update=keys)))
            print(f"seed {seed}, {name}: {scores[name][-1]}", file=sys.stderr, flush=True)
    return {"told_to_stay": told, **compare(scores, *COMPARED), "scores": scores}


def tell(plan: Plan) -> int:
    """Write an index and texts in which half of the degraded pairs stay; return how many do."""
    store, inputs = plan.store, {**plan.need("data").outputs, **plan.need("caption").outputs}
    pairs = [Pair(**row) for row in store.read_table(inputs["pairs"]).to_pylist()]
    degraded = [pair.pair_id for pair in pairs if pair.visible_guide_uri or pair.infrared_guide_uri]
    stays = set(degraded[::2])
    captions = [Caption.from_row(row) for row in store.read_table(inputs["captions"]).to_pylist()]
    changed = captions_table([_as_clean(row) if row.pair_id in stays else row for row in captions])
    store.write_table(PAIRS, pairs_to_table([_kept(p) if p.pair_id in stays else p for p in pairs]))
    _write_texts(plan, changed)
    return len(stays)


def _write_texts(plan: Plan, captions: pa.Table) -> None:
    embeddings = Embedder(plan.config.caption).table(captions)
    plan.store.write_table(shard_key(CAPTIONS, 0), captions)
    plan.store.write_table(shard_key(EMBEDDINGS, 0), embeddings)


def _kept(pair: Pair) -> Pair:
    return replace(pair, visible_guide_uri=None, infrared_guide_uri=None)


def _as_clean(caption: Caption) -> Caption:
    return replace(caption, caption=compose_caption(()), degradations=())


if __name__ == "__main__":
    main()
