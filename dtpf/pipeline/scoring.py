"""The evaluation stage: networks beside the trivial baselines, the table and the report."""

from collections.abc import Callable, Sequence

import torch

from dtpf.core.bundle import load_bundle
from dtpf.core.ops.pixels import Scaling
from dtpf.core.records import Pair
from dtpf.core.storage.keys import StageKeys
from dtpf.data.texts import Texts, read_texts
from dtpf.evaluation.baselines import BASELINES
from dtpf.evaluation.batches import Batch, Load
from dtpf.evaluation.compare import Comparison, compare, retention_in
from dtpf.evaluation.files import NAMES, contents
from dtpf.evaluation.loading import load_pair
from dtpf.evaluation.methods import BaselineMethod, Method, NetworkMethod
from dtpf.evaluation.peers import Peer, read_peers
from dtpf.evaluation.plots import Curve
from dtpf.evaluation.report import ReportData, collect_panels, render_report
from dtpf.evaluation.running import LOSSES, curves_of, run_facts
from dtpf.evaluation.score import in_split
from dtpf.evaluation.score_table import ScoreTable
from dtpf.evaluation.session import limits
from dtpf.pipeline.stages import Context, Outcome

TEACHER, STUDENT, TUNED = "teacher", "student", "student, tuned"


def evaluate(context: Context, place: StageKeys) -> Outcome:
    """Score all methods on the test split; write scores, tables and the HTML report."""
    plan, config = context.plan, context.plan.config.evaluation
    pairs, methods = context.pairs(), _methods(context)
    peers = read_peers(config, [pair.pair_id for pair in in_split(pairs, config)])
    load = _loader(plan.config.data.infrared_scaling, _texts(context))
    table = context.engines.score(methods, pairs, load, config, context.console.counter("pair"))
    context.console.line("drawing the report")
    return _write(
        context, place, table, lambda: _report(context, table, methods, pairs, load, peers)
    )


def _report(
    context: Context,
    table: ScoreTable,
    methods: Sequence[Method],
    pairs: Sequence[Pair],
    load: Load,
    peers: Sequence[Peer],
) -> str:
    plan, subject = context.plan, _subject(context)
    data, caption = plan.need("data"), plan.need("caption")
    panels, worst = collect_panels(methods, pairs, load, table, subject, plan.config.evaluation)
    return render_report(
        ReportData(
            title=f"Fusion of {plan.config.data.name}",
            dataset=plan.config.data.name,
            table=table,
            subject=subject,
            panels=panels,
            worst=worst,
            comparisons=_comparisons(table, subject),
            retention=retention_in(table, subject, TEACHER),
            curves=_curves(context),
            tuning=_tuning(context),
            run=run_facts(table, plan.config.data.source, data.outputs["digest"], caption.notes),
            receipts=_receipts(context),
            notes=_notes(context),
            peers=peers,
        )
    )


def _comparisons(table: ScoreTable, subject: str) -> list[Comparison]:
    return [item for other in (*BASELINES, TEACHER) for item in compare(table, subject, other)]


def _write(
    context: Context, place: StageKeys, table: ScoreTable, report: Callable[[], str]
) -> Outcome:
    store, subject = context.plan.store, _subject(context)
    for key, draw in contents(table, _comparisons(table, subject), report).items():
        store.write_bytes(f"{place.root}/{NAMES[key]}", draw().encode())
    outputs = {key: f"{place.root}/{name}" for key, name in NAMES.items()}
    return Outcome(outputs, table.means()[subject], {"subject": subject})


def _methods(context: Context) -> list[Method]:
    plan = context.plan
    bundles = {TEACHER: plan.need("teacher"), STUDENT: plan.need("student")}
    if _subject(context) == TUNED:
        bundles[TUNED] = plan.need("tune")
    networks = {
        name: load_bundle(plan.store.uri_of(receipt.outputs["bundle"])).model
        for name, receipt in bundles.items()
    }
    return [
        *(BaselineMethod(name) for name in BASELINES),
        *(NetworkMethod(name, net, net.config.text) for name, net in networks.items()),
        *limits(plan.config.evaluation),
    ]


def _subject(context: Context) -> str:
    return TUNED if context.plan.need("tune").notes["kept"] == "winner" else STUDENT


def _texts(context: Context) -> Texts:
    outputs = context.plan.need("caption").outputs
    return read_texts(context.plan.store, outputs["captions"], outputs["embeddings"])


def _loader(scaling: Scaling, texts: Texts) -> Load:
    def load(pair: Pair) -> Batch:
        return load_pair(pair, scaling, torch.from_numpy(texts[pair.pair_id][1])[None])

    return load


def _curves(context: Context) -> list[Curve]:
    found: list[Curve] = []
    for name in (TEACHER, STUDENT):
        rows = context.plan.store.read_json(f"{context.plan.need(name).outputs['run']}/{LOSSES}")
        found += curves_of(name, rows)
    return found


def _tuning(context: Context) -> str:
    section = context.plan.need("tune").outputs["tune_section"]
    return context.plan.store.read_bytes(section).decode()


def _receipts(context: Context) -> dict[str, dict[str, object]]:
    names = ("data", "caption", "teacher", "student", "tune")
    return {name: context.plan.need(name).as_dict() for name in names}


def _notes(context: Context) -> Sequence[str]:
    config = context.plan.config
    notes = []
    if config.data.source == "synthetic":
        notes.append(
            "The images are synthetic road scenes made by code: the numbers compare methods on "
            "them, and say nothing of published data sets. Degraded pairs are scored against "
            "their clean originals."
        )
    if config.caption.captioner == "statistics":
        notes.append("Degradations were named from image statistics, not by a language model.")
    if config.caption.encoder == "hashed":
        notes.append("Texts were encoded by a hashed bag of words, not by CLIP.")
    return notes
