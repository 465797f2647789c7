"""What does orchestration cost? Pairs through `ray.data.llm`, and through the bare engine.

    python benchmarks/caption_overhead.py --model FOLDER [--pairs 500] [--runs 1] [--json]

Needs vLLM (on CPUs: the environment of `make test-vllm`); `python -m tests.vllm.tiny_model FOLDER`
makes a model. Both read, decode and scale the same pairs and ask the same questions of engines of
the same settings. Both clocks start when the engine is warm: the bare engine has answered a few
questions; of the other way the first shard is left out.

Besides seconds it counts processor seconds, of all processes of either way together: where they
differ less than the seconds, what is lost is waiting, not work. An idle engine's polling counts.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from dtpf.caption.config import CaptionConfig, EngineResources, VlmConfig
from dtpf.caption.shards import CaptionTask, Shard
from dtpf.caption.vlm.on_ray import answers, engine_kwargs, make_request
from dtpf.caption.vlm.questions import QuestionMaker
from dtpf.core.records import Pair, pairs_to_table
from dtpf.core.storage.store import Store
from dtpf.data.images import encode_png
from dtpf.on_ray import connect

WARM = 32  # pairs before the clock starts
HEIGHT, WIDTH = 120, 160


def main() -> None:
    """Parse, measure both ways in turn, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a Qwen2-VL")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    options = parser.parse_args()
    connect()
    with tempfile.TemporaryDirectory() as folder:
        task = prepare(Path(folder), options)
        runs: dict[str, list[Spent]] = {"bare": [], "ray_data": []}
        for _ in range(options.runs):
            runs["bare"].append(bare(task))
            runs["ray_data"].append(through_ray(task))
            print(runs, file=sys.stderr, flush=True)
    seconds, processor = (medians_of(runs, field) for field in Spent._fields)
    report = {
        "pairs": options.pairs,
        "seconds": seconds,
        "ratio": seconds["ray_data"] / seconds["bare"],
        "processor_seconds": processor,
        "processor_ratio": processor["ray_data"] / processor["bare"],
    }
    print(json.dumps(report, indent=2) if options.json else report)


class Spent(NamedTuple):
    """Seconds that passed, and that processors worked."""

    wall: float
    processor: float

    @classmethod
    def so_far(cls) -> "Spent":
        """Return both for this process and all that it started and that still run."""
        ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
        times = [process.cpu_times() for process in ours if process.is_running()]
        return cls(time.monotonic(), sum(spent.user + spent.system for spent in times))

    def since(self, start: "Spent") -> "Spent":
        """Return the difference."""
        return Spent(self.wall - start.wall, self.processor - start.processor)


def medians_of(runs: dict[str, list[Spent]], field: str) -> dict[str, float]:
    """Return the median of one field for each way."""
    return {
        name: statistics.median(getattr(spent, field) for spent in values)
        for name, values in runs.items()
    }


def prepare(folder: Path, options: argparse.Namespace) -> CaptionTask:
    """Write pairs and their index; the first shard is there to warm up."""
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(WARM + options.pairs):
        uris = []
        for name, shape in (("vi", (HEIGHT, WIDTH, 3)), ("ir", (HEIGHT, WIDTH))):
            path = folder / f"{name}{number}.png"
            path.write_bytes(encode_png(rng.integers(0, 256, shape, np.uint8)))
            uris.append(path.as_uri())
        pairs.append(
            Pair(f"{number:06d}", "train", *uris, HEIGHT, WIDTH, "uint8", "uint8", "00", "00")
        )
    engine = EngineResources(
        num_gpus=options.gpus, dtype="bfloat16" if options.gpus else "float32", max_num_seqs=32
    )
    vlm = VlmConfig(model=options.model, engine=engine)
    config = CaptionConfig(captioner="qwen2_vl", shard_rows=WARM, vlm=vlm)
    store = Store(folder / "store")
    store.write_table("pairs.parquet", pairs_to_table(pairs), row_group_rows=WARM)
    return CaptionTask(store, "pairs.parquet", config, "captions/d/1", "embeddings/d/1")


def through_ray(task: CaptionTask) -> Spent:
    """Return what passes from the answer of the last warm-up pair to the last answer."""
    total = sum(map(len, task.shards()))
    marks = []
    for number, _ in enumerate(answers(task, task.shards(), 0.0), start=1):
        if number in (WARM, total):
            marks.append(Spent.so_far())
    return marks[1].since(marks[0])


def bare(task: CaptionTask) -> Spent:
    """Return what one engine of this process spends on the same, without Ray Data."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    config = task.config
    llm = LLM(config.vlm.model, **engine_kwargs(config.vlm.engine))
    request = make_request(config, config.vlm.model, 0.0)
    maker = QuestionMaker(task, request)
    sampling = dict(request.sampling)
    bound = StructuredOutputsParams(**sampling.pop("structured_outputs"))
    params = SamplingParams(**sampling, structured_outputs=bound)

    def ask(shards: list[Shard]) -> None:
        rows = [row for shard in shards for batch in maker(shard) for row in batch]
        llm.generate(
            [{"prompt": row["prompt"], "multi_modal_data": row["multimodal_data"]} for row in rows],
            params,
            use_tqdm=False,
        )

    first, *others = task.shards()
    ask([first])
    started = Spent.so_far()
    ask(others)
    return Spent.so_far().since(started)


if __name__ == "__main__":
    main()
