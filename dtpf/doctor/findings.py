"""What a check found, and how that is shown."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dtpf.core.errors import UserError

Status = Literal["pass", "warn", "fail"]

# Their values never leave the process, not even in the message of a library's error.
SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "HF_TOKEN")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at, such as `store.write`.
        status: `warn` is worth a look; with `fail` a run goes wrong, late or in silence.
        found: what is there.
        remedy: what to do; empty where all is well.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""


def passed(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name, "pass", found)


def warned(name: str, found: str, remedy: str) -> Finding:
    """Worth a look."""
    return Finding(name, "warn", found, remedy)


def failed(name: str, found: str, remedy: str) -> Finding:
    """To be mended before a run."""
    return Finding(name, "fail", found, remedy)


def guarded(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a check finds; one that ends with an error is a failure, and the others go on."""
    try:
        return list(check())
    except UserError as error:
        found, _, remedy = without_secrets(str(error)).rpartition("; ")
        return [failed(name, found or remedy, remedy if found else "mend it, then look again")]
    except Exception as error:
        found = without_secrets(f"{type(error).__name__}: {error}".splitlines()[0])
        return [failed(name, found, "the check itself broke: run it on its own to see why")]


def without_secrets(text: str) -> str:
    """Return a text with the values of secret variables struck out."""
    for name in SECRETS:
        if value := os.environ.get(name):
            text = text.replace(value, f"<{name}>")
    return text


def any_failed(places: Mapping[str, Sequence[Finding]]) -> bool:
    """Say whether something must be mended before a run."""
    return any(item.status == "fail" for items in places.values() for item in items)


def as_json(places: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    """Return the findings of each place (a machine, or `cluster`) as JSON types."""
    checks = [{"where": place, **asdict(item)} for place, items in places.items() for item in items]
    counts = Counter(check["status"] for check in checks)
    return {
        "status": next((status for status in ("fail", "warn") if counts[status]), "pass"),
        "counts": {status: counts[status] for status in ("pass", "warn", "fail")},
        "checks": checks,
    }


def as_text(places: Mapping[str, Sequence[Finding]]) -> str:
    """Return the findings as lines below the name of their place, and a last line that counts."""
    items = [item for found in places.values() for item in found]
    width = max((len(item.name) for item in items), default=0)
    lines = []
    for place, found in places.items():
        lines.append(place)
        for item in found:
            lines.append(f"  {item.status}  {item.name:<{width}}  {item.found}")
            if item.remedy:
                lines.append(f"        {'':<{width}}  -> {item.remedy}")
    counts = as_json(places)["counts"]
    return "\n".join(
        [*lines, f"{counts['pass']} pass, {counts['warn']} warn, {counts['fail']} fail"]
    )
