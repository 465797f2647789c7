"""How good is a captioner? Known degradations on clean pairs, scored per class.

    python benchmarks/caption_accuracy.py --data DIR [--json] [--all-kinds] [--set encoder=...]

DIR holds `vi` and `ir` with registered pairs of equal names, taken to be clean. Each pair is
captioned as it is, with every known degradation at several severities, and with one degradation
in each image at once: those that the statistics captioner has rules for, or with `--all-kinds` all
that there are. A class is found when the caption names it, whatever the severity. Use pairs
on which the captioner was not tuned: the statistics captioner saw RoadScene's train split.

Prints per class precision, recall, F1 and mean severity error; macro-F1; and the share of clean
pairs of which the captioner named any degradation, with their names. Some photographs are truly
dark or over-exposed as they are: `--not-clean FILE` names those that a person found so (JSON: name
to classes); they are left out of that share.
"""

import argparse
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dtpf.caption.captioner import Captioner, build_captioner
from dtpf.caption.config import CaptionConfig
from dtpf.caption.statistics import RULES
from dtpf.core.config import apply_overrides
from dtpf.core.errors import UserError
from dtpf.core.ops.pixels import FloatImage, unit_to_dtype
from dtpf.core.records import DEGRADATIONS, Degradation
from dtpf.data.degrade import apply
from dtpf.data.images import decode_infrared, decode_visible

SEVERITIES = (0.25, 0.5, 0.75, 1.0)

Kinds = dict[str, list[str]]  # of each modality


@dataclass(frozen=True)
class Answer:
    """What was put on a pair and what the captioner named: class name to severity."""

    pair: str
    truth: dict[str, float]
    said: dict[str, float]


def read_pairs(folder: Path) -> Iterator[tuple[str, FloatImage, FloatImage]]:
    """Yield name, visible (H, W, 3) and infrared (H, W) of each pair, by file name."""
    paths = sorted((folder / "vi").glob("*"))
    if not paths:
        raise UserError(f"{folder}: no images in its folder vi; name a folder with vi and ir")
    for path in paths:
        infrared = folder / "ir" / path.name
        yield (
            path.name,
            decode_visible(path.read_bytes(), str(path)),
            decode_infrared(infrared.read_bytes(), str(infrared)),
        )


def as_stored(image: FloatImage) -> FloatImage:
    """Round to 8 bits, as a file would hold it: part of what dark images lose."""
    return unit_to_dtype(image, np.dtype(np.uint8)).astype(np.float32) / 255.0


def kinds(every: bool) -> Kinds:
    """Return all known degradations, or those of the statistics captioner's rules."""
    if every:
        return {modality: list(names) for modality, names in DEGRADATIONS.items()}
    return {m: [rule.kind for rule in RULES if rule.modality == m] for m in DEGRADATIONS}


def cases(asked: Kinds, rng: np.random.Generator) -> list[tuple[Degradation, ...]]:
    """Return what is put on each pair: nothing, each alone at each severity, mixed couples."""
    single = [
        (Degradation(modality, kind, severity),)
        for modality, names in asked.items()
        for kind in names
        for severity in SEVERITIES
    ]
    couples = [
        (
            Degradation("visible", visible, float(rng.choice(SEVERITIES))),
            Degradation("infrared", infrared, float(rng.choice(SEVERITIES))),
        )
        for visible in asked["visible"]
        for infrared in asked["infrared"]
    ]
    return [(), *single, *couples]


def ask(captioner: Captioner, folder: Path, asked: Kinds, seed: int) -> list[Answer]:
    """Caption every pair in every case."""
    answers = []
    for number, (name, visible, infrared) in enumerate(read_pairs(folder)):
        rng = np.random.default_rng((seed, number))
        for case in cases(asked, rng):
            images = (as_stored(image) for image in apply((visible, infrared), case, rng))
            caption = captioner.caption(name, *images)
            said = {item.name: item.severity for item in caption.degradations}
            answers.append(Answer(name, {item.name: item.severity for item in case}, said))
    return answers


def score_class(name: str, answers: list[Answer]) -> dict[str, float]:
    """Return precision, recall, F1, and the mean absolute error of severity where found."""
    hits = [answer for answer in answers if name in answer.truth and name in answer.said]
    said = sum(name in answer.said for answer in answers)
    there = sum(name in answer.truth for answer in answers)
    errors = [abs(answer.truth[name] - answer.said[name]) for answer in hits]
    return {
        "precision": len(hits) / max(said, 1),
        "recall": len(hits) / max(there, 1),
        "f1": 2 * len(hits) / max(said + there, 1),
        "severity_error": float(np.mean(errors)) if errors else float("nan"),
    }


def score(answers: list[Answer], asked: Kinds, not_clean: Collection[str] = ()) -> dict:
    """Return all scores as plain types; `not_clean` are pairs that are degraded as they are."""
    named = [f"{modality}/{kind}" for modality, names in asked.items() for kind in names]
    classes = {name: score_class(name, answers) for name in named}
    untouched = [answer for answer in answers if not answer.truth]
    clean = [answer for answer in untouched if Path(answer.pair).stem not in not_clean]
    alarms = {answer.pair: answer.said for answer in clean if answer.said}
    return {
        "captions": len(answers),
        "clean_pairs": len(clean),
        "left_out": len(untouched) - len(clean),
        "classes": classes,
        "macro_f1": float(np.mean([values["f1"] for values in classes.values()])),
        "false_alarm_rate": len(alarms) / len(clean),
        "false_alarms": alarms,
    }


def as_table(result: dict) -> str:
    """Return the scores for people."""
    lines = [f"{'class':24} precision  recall      F1  severity error"]
    for name, values in result["classes"].items():
        lines.append(
            f"{name:24} {values['precision']:9.3f} {values['recall']:7.3f} {values['f1']:7.3f}"
            f" {values['severity_error']:15.3f}"
        )
    lines.append(f"macro-F1 {result['macro_f1']:.3f} over {result['captions']} captions")
    lines.append(
        f"false alarms on {result['false_alarm_rate']:.1%} of {result['clean_pairs']} clean pairs:"
        f" {', '.join(result['false_alarms']) or 'none'}"
    )
    return "\n".join(lines)


def main() -> None:
    """Parse, ask, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with vi and ir")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--not-clean", type=Path, metavar="FILE", help="JSON: pair to classes")
    parser.add_argument("--all-kinds", action="store_true", help="see above")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    not_clean = json.loads(options.not_clean.read_text()) if options.not_clean else {}
    captioner = build_captioner(apply_overrides(CaptionConfig(), options.overrides))
    asked = kinds(options.all_kinds)
    result = {
        "captioner": captioner.name,
        "revision": captioner.revision,
        "seed": options.seed,
        **score(ask(captioner, options.data, asked, options.seed), asked, not_clean),
    }
    print(json.dumps(result, indent=2) if options.json else as_table(result))


if __name__ == "__main__":
    main()
