"""Tables of a documentation page that a benchmark writes, each after its mark."""

import re
from collections.abc import Mapping, Sequence


def updated(page: str, kind: str, tables: Mapping[str, str]) -> str:
    """Return a page with what follows each mark `<!-- KIND: NAME -->` replaced by its table.

    Raises:
        ValueError: the page has no such mark.
    """
    for name, text in tables.items():
        pattern = rf"(<!-- {kind}: {re.escape(name)} -->\n\n)(?:\|.*\n)*"
        page, count = re.subn(pattern, lambda found, text=text: found[1] + text, page)
        if not count:
            raise ValueError(f"the page has no mark <!-- {kind}: {name} -->")
    return page


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    text = "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
    return text.replace("| --- ", "|---")
