"""The HTML reports: what is in them, and what a real browser makes of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import SetupError
from bootstrap.report import Deployment, Section, Timing
from bootstrap.reporting import compare_page, document, page
from bootstrap.reporting.words import Language
from tests.bootstrap.deployments import FIRST, GENERATE, INSTALL, SECOND

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LONG = Deployment(
    "20260104T030405-000003",
    (
        replace(
            INSTALL,
            seconds=4000.0,
            timings=(
                Timing("weights", "fetch a-model-with-a-rather-long-name-of-its-own", 1.0, 3990.0, 14_000_000_000),
                Timing("weights.download", "download 44 files", 1.0, 3990.0, 14_000_000_000, None, {
                    f"mirror-number-{number}.of-a-university.example:8443": 14_000_000_000 // 9 for number in range(9)
                }, 17),
            ),
            facts={"model": "x", "video": "/a/very/long/path/" + "without/an/end" * 8},
        ),
    ),
)  # fmt: skip

# Measures a page in frames of several widths: what is wider than its frame, and which words lie on each other.
PROBE = """<!doctype html><body><script>
const told = {}, widths = [390, 1200];
function probe(width, source) {
  return new Promise(done => {
    const frame = document.createElement('iframe');
    frame.style = `width:${width}px;height:900px;border:0`;
    frame.onload = () => {
      const page = frame.contentDocument, root = page.documentElement;
      page.querySelectorAll('details').forEach(it => it.open = true);
      const labels = 'h2 > *, .name, time, .axis span span, .guess li > span:not(.bar), th, td';
      const boxes = [...page.querySelectorAll(labels)]
        .filter(it => it.textContent.trim() && it.getClientRects().length)
        .map(it => { const range = page.createRange(); range.selectNodeContents(it);
                     return [it.textContent.trim(), [...range.getClientRects()], it]; });
      const overlaps = [];
      for (const [a, as, one] of boxes) for (const [b, bs, other] of boxes)
        if (one !== other && !one.contains(other) && !other.contains(one)
            && as.some(p => bs.some(q => p.left < q.right - 1 && q.left < p.right - 1
                                       && p.top < q.bottom - 1 && q.top < p.bottom - 1)))
          overlaps.push([a, b]);
      done({ wide: root.scrollWidth - root.clientWidth, overlaps: overlaps.slice(0, 5), labels: boxes.length,
             loaded: frame.contentWindow.performance.getEntriesByType('resource').map(it => it.name),
             paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
             ink: frame.contentWindow.getComputedStyle(page.body).color,
             bars: [...page.querySelectorAll('ol .bar')].map(it => {
               const bar = it.getBoundingClientRect(), track = it.parentElement.getBoundingClientRect();
               return [bar.left - track.left, bar.width, track.width, bar.height]; }) });
    };
    frame.src = source; document.body.append(frame);
  });
}
Promise.all(widths.map(width => probe(width, 'report.html'))).then(found => {
  const out = document.createElement('pre'); out.id = 'told';
  out.textContent = JSON.stringify(found); document.body.replaceChildren(out);
});
</script></body>"""

Look = Callable[..., Mapping[int, Any]]


@pytest.mark.parametrize("text", [page.html(FIRST), page.html(FIRST, "zh"), compare_page.html(FIRST, SECOND)])
def test_a_page_needs_no_network_and_no_script(text: str) -> None:
    assert "://" not in text
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,"}
    assert 'name="viewport"' in text


def test_a_page_escapes_what_it_shows() -> None:
    evil = '"><script>alert(1)</script><img src=x>'
    timings = (Timing("fetch", evil, 0, 1, 5, evil), Timing("weights.download", evil, 0, 1, 5, None, {evil: 5}))
    section = Section(
        evil, evil, 1, timings, {"model": evil, evil: "b"}, INSTALL.files, INSTALL.flows, INSTALL.upstreams
    )
    upstream = replace(INSTALL.upstreams[1], name=evil, how=evil, measured=evil)
    hostile = Deployment(
        evil, (replace(section, upstreams=(upstream,), files=(replace(INSTALL.files[0], name=evil),)),)
    )
    for text in (page.html(hostile), page.html(hostile, "zh"), compare_page.html(hostile, FIRST)):
        assert "<script" not in text
        assert "<img" not in text


def test_a_bar_lies_where_its_phase_was() -> None:
    assert "left:7.50%;width:42.50%" in page.html(FIRST)


def test_what_took_longest_is_said_first_and_stands_out() -> None:
    text = page.html(FIRST)
    lead = text[text.index("Longest:") : text.index("<ol")]
    assert [unescape(name) for name in re.findall(r"<b>(.*?)</b>", lead)] == ["install packages", "verify", "fetch svd"]
    assert re.findall(r'<li class="disk longest"><span class="name">(.*?)<', text) == ["install packages"]


def test_a_page_says_that_a_prediction_is_none_of_what_happened() -> None:
    text = page.html(FIRST)
    box = text[text.index('class="guess"') :]
    assert "A prediction, not a measurement" in box
    assert "245 s" in box
    assert "1.0 MB/s" in box
    assert "这是预测" in page.html(FIRST, "zh")
    assert 'class="guess"' not in page.html(Deployment("id", (GENERATE,)))


def test_a_page_in_chinese_says_so_and_has_no_english_titles() -> None:
    text = page.html(FIRST, "zh")
    assert '<html lang="zh-CN">' in text
    assert "安装软件包" in text
    assert "install packages" not in text


def test_a_page_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be written"):
        document.write("", tmp_path / "missing" / "report.html")


def test_colours_have_enough_contrast() -> None:
    style = files("bootstrap.reporting").joinpath("page.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        for words in ("ink", "dim", "guess", "better" if "better" in colours else "disk"):
            assert contrast(colours[words], colours["paper"]) >= 4.5, words
        assert contrast(colours["dim"], colours["faint"]) >= 4.5
        for bars in ("network", "disk", "runs", "other", "guess"):
            assert contrast(colours[bars], colours["paper"]) >= 3, bars


def contrast(one: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines reckon it."""

    def luminance(colour: str) -> float:
        channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """What Chromium makes of a page, by the width of its window."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "probe.html").write_text(PROBE, encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def measure(text: str, *, dark: bool = False) -> Mapping[int, Any]:
            (tmp_path / "web" / "report.html").write_text(text, encoding="utf-8")
            options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
            options += [f"--user-data-dir={tmp_path / 'profile'}", "--disable-background-networking", "--no-first-run"]
            options += ["--window-size=1300,900", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
            url = f"http://127.0.0.1:{server.server_port}/probe.html"
            done = subprocess.run([CHROMIUM, *options, url], capture_output=True, text=True, check=True, timeout=120)
            told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
            assert told, done.stdout[-2000:] + done.stderr[-2000:]
            return dict(zip((390, 1200), json.loads(unescape(told[1])), strict=True))

        yield measure
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("deployment", "lang"), [(FIRST, "en"), (FIRST, "zh"), (LONG, "en")], ids=["english", "chinese", "long"]
)
def test_a_browser_shows_the_page_whole_on_a_phone_too(deployment: Deployment, lang: Language, look: Look) -> None:
    for found in look(page.html(deployment, lang)).values():
        assert found["wide"] <= 0
        assert found["overlaps"] == []
        assert found["labels"] > 10
        assert found["loaded"] == []
        for left, width, track, height in found["bars"]:
            assert 0 <= left <= track
            assert left + width <= track + 3.5  # the shortest bars are made wide enough to be seen
            assert height >= 7


def test_a_browser_shows_two_deployments_whole_on_a_phone_too(look: Look) -> None:
    for found in look(compare_page.html(FIRST, SECOND)).values():
        assert (found["wide"], found["overlaps"], found["loaded"]) == (0, [], [])


def test_a_label_that_lies_on_another_would_be_seen(look: Look) -> None:
    broken = page.html(LONG).replace("</style>", ".name { white-space: nowrap; } section { min-width: 500px; }</style>")
    found = look(broken)
    assert found[390]["wide"] > 0
    assert found[1200]["overlaps"] != []


def test_a_browser_shows_it_light_or_dark_as_the_reader_prefers(look: Look) -> None:
    light, dark = look(page.html(FIRST))[1200], look(page.html(FIRST), dark=True)[1200]
    brightness = {
        name: sum(map(int, re.findall(r"\d+", found["paper"])[:3])) for name, found in (("l", light), ("d", dark))
    }
    assert brightness["l"] > 600
    assert brightness["d"] < 150
    assert light["ink"] != dark["ink"]
