"""The page is whole, needs nothing from elsewhere, and its parts fit each other."""

import re
from html.parser import HTMLParser

import pytest

from dtpf.serving.app import PAGE

TEXTS = {path.name: path.read_text() for path in PAGE.iterdir()}


class Elements(HTMLParser):
    """Collects the tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


ELEMENTS = Elements(TEXTS["index.html"]).found


def test_index_is_served_at_the_root(client):
    response = client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert response.text == TEXTS["index.html"]


@pytest.mark.parametrize("name", ["app.css", "app.js", "frames.js", "zoom.js"])
def test_assets_are_served_and_linked(client, name):
    response = client.get(f"/static/{name}")
    assert response.text == TEXTS[name]
    linked = f"static/{name}" in TEXTS["index.html"]
    assert linked or f'from "./{name}"' in TEXTS["app.js"]


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_nothing_comes_from_elsewhere(name):
    text = TEXTS[name].replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
    assert not re.search(r"https?:|//[a-z0-9-]+\.|@import|url\((?!['\"]?data:)", text)


def test_addresses_are_relative_so_that_any_route_prefix_works():
    links = [attrs[key] for _, attrs in ELEMENTS for key in ("src", "href") if attrs.get(key)]
    assert links
    assert not [link for link in links if link.startswith("/")]
    assert not re.search(r"fetch\([`'\"]/", TEXTS["app.js"])


def test_content_policy_holds_no_inline_script_or_style():
    assert all(attrs.get("src") for tag, attrs in ELEMENTS if tag == "script")
    assert not [tag for tag, _ in ELEMENTS if tag == "style"]
    inline = [key for _, attrs in ELEMENTS for key in attrs if key == "style" or key[:2] == "on"]
    assert inline == []


def test_every_id_that_the_script_asks_for_exists():
    ids = {attrs["id"] for _, attrs in ELEMENTS if "id" in attrs}
    scripts = "".join(text for name, text in TEXTS.items() if name.endswith(".js"))
    wanted = set(re.findall(r'by\("([a-z-]+)"\)', scripts))
    modalities = ("visible", "infrared")
    for prefix in re.findall(r"by\(`([a-z]+)-\$\{modality\}`\)", TEXTS["app.js"]):
        wanted |= {f"{prefix}-{modality}" for modality in modalities}
    assert len(wanted) > 10
    assert wanted <= ids


def test_controls_have_names_and_images_alternatives():
    assert all("alt" in attrs for tag, attrs in ELEMENTS if tag == "img")
    wipe = next(attrs for _, attrs in ELEMENTS if attrs.get("id") == "wipe")
    assert wipe["aria-label"]
    assert ("html", {"lang": "en"}) in ELEMENTS
    assert any(attrs.get("name") == "viewport" for _, attrs in ELEMENTS)


def test_dark_mode_defines_every_colour_again():
    light, dark = TEXTS["app.css"].split("prefers-color-scheme: dark", 1)
    names = set(re.findall(r"(--[a-z-]+): #", light))
    again = set(re.findall(r"(--[a-z-]+): #", dark.split("}", 1)[0]))
    assert names
    assert names == again
