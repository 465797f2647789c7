"""The page in a real Chromium against a real endpoint: what a person would do with it."""

import base64
import io
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from dtpf.core.machine import free_port
from dtpf.serving.tokens import add_token
from tests.serving.fakes import infrared_png, visible_png
from tests.serving.test_archive import packed, pairs

CHROMIUM = Path("/usr/bin/chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no Chromium at {CHROMIUM}")

PROGRAM = """
import sys
from dtpf.serving.config import ServeConfig
from dtpf.serving.local import serve_local
config = ServeConfig(port=int(sys.argv[1]), log_requests=False, tokens_file=sys.argv[2] or None)
serve_local({"student": "student_tiny", "other": "student_tiny"}, config)
"""


def serving(tokens: str = ""):
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port), tokens])
    for _ in range(1200):
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return f"http://127.0.0.1:{port}", process
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise AssertionError("the endpoint did not come up")


@pytest.fixture(scope="module")
def url():
    address, process = serving()
    yield address
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


def eventually(page, expression: str) -> None:
    """Wait for an expression; Playwright's own way needs eval, which the page's policy forbids."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


class Visit:
    """A page that notes what it asked for and what it complained about."""

    def __init__(self, browser, url: str, **context) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.goto(url)
        self.page.wait_for_selector("#strip button")

    def _note(self, message) -> None:
        # Chromium reports each 4xx answer as an error of its own.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.errors.append(message.text)

    def choose(self, visible: bytes, infrared: bytes) -> None:
        for field, data in (("visible", visible), ("infrared", infrared)):
            file = {"name": f"{field}.png", "mimeType": "image/png", "buffer": data}
            self.page.set_input_files(f"input[name={field}]", file)

    def fused(self) -> None:
        self.page.wait_for_selector("#result", state="visible")
        eventually(self.page, "document.getElementById('under').naturalWidth > 0")


@pytest.fixture
def visit(browser, url):
    opened = Visit(browser, url, viewport={"width": 1280, "height": 900})
    yield opened
    opened.context.close()
    assert opened.errors == []
    assert {re.match(r"(data|blob|http)", address)[0] for address in opened.asked} <= {
        "data",
        "blob",
        "http",
    }
    outside = [a for a in opened.asked if a.startswith("http") and not a.startswith(url)]
    assert outside == []


def test_two_files_are_fused_compared_and_downloaded(visit):
    page = visit.page
    assert page.is_disabled("#fuse")
    visit.choose(visible_png(), infrared_png())
    page.click("#fuse")
    visit.fused()
    assert page.evaluate("document.getElementById('under').naturalWidth") == 32
    assert "ms" in page.inner_text("#timing")
    assert {"decode", "model", "encode", "round trip"} <= set(
        page.locator("#timing dt").all_inner_texts()
    )
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "fused.png"
    assert Image.open(download.value.path()).size == (32, 24)


def test_an_example_is_one_click(visit):
    visit.page.click("#strip button >> nth=0")
    visit.fused()
    assert visit.page.evaluate("document.getElementById('under').naturalWidth") == 320


def test_wipe_follows_the_mouse_and_shows_both_sides(visit):
    page = visit.page
    page.click("#strip button >> nth=0")
    visit.fused()
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    assert abs(float(page.input_value("#wipe")) - 25) < 4
    clip = page.evaluate("getComputedStyle(document.querySelector('.over')).clipPath")
    assert "inset(0" in clip
    page.check("input[value=infrared]", force=True)
    assert page.inner_text("#tag") == "Infrared"
    left, right = pixels(page, 0.1), pixels(page, 0.9)
    assert left != right


def pixels(page, where: float) -> bytes:
    box = page.locator("#stage").bounding_box()
    clip = {"x": box["x"] + where * box["width"], "y": box["y"] + 0.5 * box["height"]}
    return page.screenshot(clip=clip | {"width": 20, "height": 20})


def test_zoom_goes_in_step(visit):
    page = visit.page
    page.click("#strip button >> nth=0")
    visit.fused()
    transforms = (
        "[...document.querySelectorAll('.pane img')].map((i) => getComputedStyle(i).transform)"
    )
    page.click("#zoom-in")
    page.click("#zoom-in")
    scales = {value.split("(")[1].split(",")[0] for value in page.evaluate(transforms)}
    assert scales == {"2.25"}
    assert page.inner_text("#zoom-level") == "225 %"
    before = page.evaluate(transforms)
    box = page.locator(".trio .pane >> nth=1").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 30, steps=3)
    page.mouse.up()
    after = page.evaluate(transforms)
    assert all(old != new for old, new in zip(before, after, strict=True))
    page.click("#zoom-fit")
    assert page.inner_text("#zoom-level") == "100 %"


def test_keyboard_alone_is_enough(visit):
    page = visit.page
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#strip') !== null"):
            break
    page.keyboard.press("Enter")
    visit.fused()
    page.focus("#wipe")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert float(page.input_value("#wipe")) == 51
    page.keyboard.press("+")
    assert page.inner_text("#zoom-level") == "150 %"
    x = page.evaluate("document.getElementById('result').style.getPropertyValue('--x')")
    page.keyboard.press("Shift+ArrowRight")
    assert x != page.evaluate("document.getElementById('result').style.getPropertyValue('--x')")
    page.keyboard.press("0")
    assert page.inner_text("#zoom-level") == "100 %"


def test_problem_is_told_at_the_right_place(visit):
    page = visit.page
    visit.choose(visible_png(), b"no image")
    page.click("#fuse")
    page.wait_for_selector("#error", state="visible")
    assert "infrared: not an image" in page.inner_text("#error")
    assert "bad" in page.get_attribute("#slot-infrared", "class")
    visit.choose(visible_png(48, 64), infrared_png(24, 32))
    page.click("#fuse")
    eventually(page, "document.getElementById('error').textContent.includes('sizes differ')")
    page.select_option("select[name=size]", "visible")
    page.click("#fuse")
    visit.fused()
    assert page.is_hidden("#error")


def test_model_card_and_choice_of_model(visit):
    page = visit.page
    assert page.locator("select[name=model] option").all_inner_texts() == ["student", "other"]
    page.select_option("select[name=model]", "other")
    assert "other" in page.inner_text("#chip")
    assert "Parameters" in page.inner_text("#card")
    page.click("#strip button >> nth=0")
    visit.fused()
    assert any("model=other" in address for address in visit.asked)


def test_frames_of_two_videos(visit):
    page = visit.page
    video = base64.b64decode(page.evaluate(RECORD))
    for field in ("visible", "infrared"):
        file = {"name": f"{field}.webm", "mimeType": "video/webm", "buffer": video}
        page.set_input_files(f"input[name={field}]", file)
    eventually(page, "!document.getElementById('fuse').disabled")
    assert page.is_visible("#frame")
    assert "at 0.00 s" in page.inner_text("#slot-visible .name")
    page.click("#fuse")
    visit.fused()
    assert page.evaluate("document.getElementById('under').naturalWidth") == 64


RECORD = """async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
  const paint = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(25), { mimeType: "video/webm" });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.start();
  for (let step = 0; step < 12; step++) {
    paint.fillStyle = `rgb(${20 * step}, 80, 90)`;
    paint.fillRect(0, 0, 64, 48);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  await new Promise((resolve) => { recorder.onstop = resolve; recorder.stop(); });
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_in_both_schemes(browser, url, scheme):
    visit = Visit(
        browser, url, color_scheme=scheme, viewport={"width": 375, "height": 740}, has_touch=True
    )
    page = visit.page
    page.click("#strip button >> nth=0")
    visit.fused()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) > 380
    assert light is (scheme == "light")
    assert visit.errors == []
    visit.context.close()


def test_token_is_asked_for_and_kept_for_the_tab_only(browser, tmp_path):
    path = tmp_path / "tokens.json"
    secret = add_token(path, "lab")
    url, process = serving(str(path))
    try:
        visit = Visit(browser, url)
        page = visit.page
        page.wait_for_selector("#token-field", state="visible")
        page.fill("input[name=token]", secret)
        page.press("input[name=token]", "Tab")
        eventually(page, "document.getElementById('chip').textContent.includes('student')")
        page.click("#strip button >> nth=0")
        visit.fused()
        assert page.evaluate("localStorage.length") == 0
        assert secret not in page.url
        assert not [address for address in visit.asked if secret in address]
        visit.context.close()
    finally:
        process.terminate()
        process.wait(30)


def test_endpoint_behind_the_page_answers_programs_too(url):
    answer = httpx.post(f"{url}/fuse/batch", content=packed(pairs("a")), trust_env=False)
    assert answer.status_code == 200
    assert io.BytesIO(answer.content).read(2) == b"PK"
