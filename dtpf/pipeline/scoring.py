"""The evaluation stage: networks beside the trivial baselines, the table and the report."""

from collections.abc import Sequence

import torch

from dtpf.core.bundle import load_bundle
from dtpf.core.ops.pixels import Scaling
from dtpf.core.records import Pair
from dtpf.core.storage.keys import StageKeys
from dtpf.data.texts import Texts, read_texts
from dtpf.evaluation import tables
from dtpf.evaluation.baselines import BASELINES
from dtpf.evaluation.compare import compare, retention
from dtpf.evaluation.loading import load_pair
from dtpf.evaluation.methods import BaselineMethod, Load, LoadedPair, Method, NetworkMethod
from dtpf.evaluation.plots import Curve
from dtpf.evaluation.report import ReportData, Tuning, collect_panels, render_report
from dtpf.evaluation.score import ScoreTable
from dtpf.evaluation.score import evaluate as score_methods
from dtpf.pipeline.stages import Context, Outcome

TEACHER, STUDENT, TUNED = "teacher", "student", "student, tuned"
LOSSES = "losses.json"


def evaluate(context: Context, place: StageKeys) -> Outcome:
    """Score all methods on the test split; write scores, tables and the HTML report."""
    plan, config = context.plan, context.plan.config.evaluation
    pairs, methods = context.pairs(), _methods(context)
    load = _loader(plan.config.data.infrared_scaling, _texts(context))
    table = score_methods(methods, pairs, load, config, context.console.counter("pair"))
    subject = _subject(context)
    context.console.line("drawing the report")
    panels, worst = collect_panels(methods, pairs, load, table, subject, config)
    report = render_report(
        ReportData(
            title=f"Fusion of {plan.config.data.name}",
            dataset=plan.config.data.name,
            table=table,
            subject=subject,
            panels=panels,
            worst=worst,
            comparisons=[item for other in BASELINES for item in compare(table, subject, other)],
            retention=retention(table, subject, TEACHER),
            curves=_curves(context),
            tuning=_tuning(context),
            receipts=_receipts(context),
            notes=_notes(context),
        )
    )
    return _write(context, place, table, report, subject)


def _write(
    context: Context, place: StageKeys, table: ScoreTable, report: str, subject: str
) -> Outcome:
    store = context.plan.store
    files = {
        "report": ("report.html", report),
        "table": ("table.txt", tables.to_text(table)),
        "markdown": ("table.md", tables.to_markdown(table)),
        "csv": ("scores.csv", tables.to_csv(table)),
        "json": ("scores.json", tables.to_json(table)),
    }
    for name, text in files.values():
        store.write_bytes(f"{place.root}/{name}", text.encode())
    outputs = {key: f"{place.root}/{name}" for key, (name, _) in files.items()}
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
    ]


def _subject(context: Context) -> str:
    return TUNED if context.plan.need("tune").notes["kept"] == "winner" else STUDENT


def _texts(context: Context) -> Texts:
    outputs = context.plan.need("caption").outputs
    return read_texts(context.plan.store, outputs["captions"], outputs["embeddings"])


def _loader(scaling: Scaling, texts: Texts) -> Load:
    def load(pair: Pair) -> LoadedPair:
        return load_pair(pair, scaling, torch.from_numpy(texts[pair.pair_id][1])[None])

    return load


def _curves(context: Context) -> list[Curve]:
    found: list[Curve] = []
    for name in (TEACHER, STUDENT):
        rows = context.plan.store.read_json(f"{context.plan.need(name).outputs['run']}/{LOSSES}")
        steps = [row["step"] for row in rows]
        terms = [term for term in rows[0] if term != "step"]
        found += [Curve(f"{name}/{term}", steps, [row[term] for row in rows]) for term in terms]
    return found


def _tuning(context: Context) -> Tuning:
    rows = context.plan.store.read_json(context.plan.need("tune").outputs["trials"])
    flat = [
        {**{key: value for key, value in row.items() if key != "setting"}, **row["setting"]}
        for row in rows
    ]
    best = max(
        (index for index, row in enumerate(flat) if row["status"] == "finished"),
        key=lambda index: flat[index]["retention"],
        default=None,
    )
    return Tuning(flat, "retention", "parameters", best)


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
