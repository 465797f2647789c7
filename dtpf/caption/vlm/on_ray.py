"""Captions by a vision-language model: `ray.data.llm`, with vLLM engines as actors.

    shards -> rows with images -> [engine: ray.data.llm] -> rows -> whole shards

The stages of `ray.data.llm` that fetch images and fill in chat templates are left out: every pair
has the same prompt, and each stage costs a copy of the images. Only text comes back to the driver,
which holds the shards that are not complete. What cannot be used of the first answers
(temperature 0) is asked once more.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from dtpf.caption.config import CaptionConfig, EngineResources
from dtpf.caption.models import local_model
from dtpf.caption.runner import Progress
from dtpf.caption.shards import CaptionTask, Shard, shard_table
from dtpf.caption.vlm.collecting import Collector
from dtpf.caption.vlm.drafts import Drafts
from dtpf.caption.vlm.prompts import image_order, read_prompt, render
from dtpf.caption.vlm.questions import Finishing, QuestionMaker, Request, sampling_params
from dtpf.core.errors import UserError
from dtpf.on_ray import quiet_data, quota, room_for, through_pool

_OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "VLLM_NO_USAGE_STATS": "1"}


def caption_by_engine(task: CaptionTask, progress: Progress | None = None) -> None:
    """Publish the captions of all shards that have none.

    Raises:
        UserError: the model cannot be had, vLLM is not installed, or the storage is not usable.
    """
    drafts, shards = Drafts(task), task.shards()
    for last in (False, True):
        open_shards = task.without_captions(shards)
        again = drafts.there(open_shards)
        asked = again if last else [shard for shard in open_shards if shard not in again]
        if asked:
            _ask(task, asked, last, progress)


def _ask(task: CaptionTask, shards: Sequence[Shard], last: bool, progress: Progress | None) -> None:
    """Ask about shards; progress counts the pairs of this pass, a second one is short."""
    collector = Collector(task, {shard.number: shard for shard in shards}, last)
    total = sum(map(len, shards))
    temperature = task.config.vlm.retry_temperature if last else 0.0
    if progress:
        progress(0, total, 0)
    with closing(answers(task, shards, temperature)) as rows:
        for row in rows:
            collector.add(row)
            if progress:
                progress(collector.answered, total, collector.failed)


def answers(
    task: CaptionTask, shards: Sequence[Shard], temperature: float
) -> Generator[dict[str, Any], None, None]:
    """Yield a row of every pair of the shards, as `Finishing` makes it, in any order."""
    from ray.data import DataContext

    engine = task.config.vlm.engine
    model = _model_on_nodes(task.config)
    try:
        processor = _processor(engine, model)
        request = make_request(task.config, model, temperature)
    except ImportError as error:
        raise UserError(
            f"caption.captioner=qwen2_vl: {error}; run `pip install 'dtpf[ray,vllm]'` on every node"
        ) from None
    with DataContext.current(quiet_data(engine.start_timeout_s)):
        questions = through_pool(
            [shard_table(shard) for shard in shards],
            _Questions,
            (task, request, processor.DATA_COLUMN),
            actors=engine.engines,
            num_cpus=engine.stage_cpus,
        )
        rows = processor(questions)
    cpus = 0.0 if engine.num_gpus else engine.num_cpus
    asked = {"CPU": cpus, "GPU": engine.num_gpus, **quota()}
    with room_for(asked, engine.start_timeout_s):
        yield from rows.iter_rows()


def make_request(config: CaptionConfig, model: str, temperature: float) -> Request:
    """Return what is asked of every pair; `model` is the folder of the model."""
    prompt = read_prompt(config.vlm.prompt, config.prompt_version)
    sampling = sampling_params(config.vlm, temperature)
    return Request(render(prompt, model), tuple(image_order(prompt)), sampling)


class _Questions:
    """Actor: a table of shards to tables of one column with the rows that the engine stage takes.

    Always as Python objects: left to itself, Ray Data makes them or structs, as a batch happens to
    have images or not, and cannot join the two.
    """

    def __init__(self, task: CaptionTask, request: Request, column: str) -> None:
        self._maker = QuestionMaker(task, request)
        self._column = column

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        from ray.data.extensions.object_extension import ArrowPythonObjectArray

        for shard in batch.to_pylist():
            for rows in self._maker(Shard(**shard)):
                for row in rows:
                    if row["sampling_params"] is not None:
                        row["sampling_params"]["output_kind"] = _WholeAnswer()
                yield pa.table({self._column: ArrowPythonObjectArray.from_objects(rows)})


class _WholeAnswer:
    """Arrives in the engine's process as `RequestOutputKind.FINAL_ONLY`.

    Else vLLM hands over every token of every answer by itself, and `ray.data.llm` drops all but the
    last. Whoever writes the rows needs no vLLM in memory for that.
    """

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _final_only, ()


def _final_only() -> Any:
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY


def _processor(engine: EngineResources, model: str) -> Any:
    from ray.data import ActorPoolStrategy
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    settings = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs=engine_kwargs(engine),
        batch_size=engine.batch_size,
        max_concurrent_batches=_batches_in_flight(engine),
        concurrency=(engine.engines, engine.engines),
        should_continue_on_error=True,
        prepare_multimodal_stage=False,
        chat_template_stage=False,
        tokenize_stage=False,  # the engine does both itself
        detokenize_stage=False,
        placement_group_config=_placement(engine),
        runtime_env={"env_vars": _OFFLINE},
    )
    processor = build_processor(settings)
    processor.preprocess = None  # rows come as the engine takes them
    # Not as an argument above: rows that failed would pass that by, with all their columns, and
    # in one block with others they take the others' answers away.
    processor.postprocess = Finishing
    processor.postprocess_map_kwargs = {
        "fn_constructor_args": (processor.DATA_COLUMN,),
        # As tasks, many at once would each start a process, on cores that the engine needs.
        "compute": ActorPoolStrategy(size=engine.engines),
        "num_cpus": engine.stage_cpus,
    }
    return processor


def _batches_in_flight(engine: EngineResources) -> int:
    """Return how many batches an engine is given at once.

    Twice what it answers at a time, and two that are on their way: a batch comes back when its last
    answer is there, and until then the places of the others have to be taken by those that wait.
    """
    return 2 + -(-2 * engine.max_num_seqs // engine.batch_size)


def engine_kwargs(engine: EngineResources) -> dict[str, Any]:
    """Return the arguments of a vLLM engine for questions with two images."""
    return {
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "dtype": engine.dtype,
        "enforce_eager": engine.eager,
        "tensor_parallel_size": max(engine.num_gpus, 1),
        "gpu_memory_utilization": engine.memory_fraction,
        "limit_mm_per_prompt": {"image": 2},
        "seed": 0,
        # Of itself xgrammar lets a model write blanks until it is cut off; only the engine can
        # forbid that, and only where the backend is named.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }


def _placement(engine: EngineResources) -> dict[str, Any] | None:
    """Return what an engine reserves where that is not one GPU a bundle, as Ray would have it."""
    if engine.num_gpus:
        return {"bundles": [{"GPU": 1, **quota()}] * engine.num_gpus} if quota() else None
    return {"bundles": [{"CPU": engine.num_cpus, **quota()}]}


def _model_on_nodes(config: CaptionConfig) -> str:
    """Bring the model to every node, and return the folder in which all of them have it."""
    fetch = ray.remote(num_cpus=0)(local_model)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    calls = [
        fetch.options(scheduling_strategy=place).remote(config.vlm.model, config.vlm.cache)
        for place in places
    ]
    try:
        folders = set(ray.get(calls))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    if len(folders) > 1:
        raise UserError(
            f"caption.vlm.model: nodes keep it in different folders ({', '.join(sorted(folders))});"
            " give all nodes the same HF_HOME, or set caption.vlm.cache to a path without ~"
        )
    return str(folders.pop())
