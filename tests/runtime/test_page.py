"""The page, as people use it: in a real browser, with the real server behind it."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.runtime import browser as browsers
from tests.runtime.browser import SOON, Visit
from tests.runtime.claimed_gpu import Gpu, open_shop, served
from tests.runtime.conftest import LONG, PHOTO, ROOT, SMALL, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

WEB = ROOT / "runtime" / "web"
PHONE, DESK = (390, 844), (1280, 900)
#: Seconds that a small video may take on a busy machine.
LATER = 200.0
GIB = 2**30

_MISSING = browsers.missing()
if _MISSING and os.environ.get("CI"):
    raise RuntimeError(_MISSING)
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))


@pytest.fixture(scope="module")
def chromium() -> Iterator["Browser"]:
    with browsers.browser() as started:
        yield started


@pytest.fixture
def visit(chromium: "Browser") -> Iterator[Callable[..., Visit]]:
    """Opens the page for a new person each time; whatever they did, nobody but the server was asked."""
    contexts = []

    def make(url: str, size: tuple[int, int] = DESK, language: str = "en-US") -> Visit:
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, locale=language)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        return Visit(context.new_page(), url)

    yield make
    for context in contexts:
        context.close()


def choose_photo(person: Visit) -> None:
    person.page.set_input_files("#picture", PHOTO)
    person.wait_for("#preview")


def clear(server: Server) -> None:
    """Forgets all videos of a server, so that a test sees only its own."""
    while videos := server.request("GET", "/v1/videos?limit=100").json()["data"]:
        for video in videos:
            server.request("DELETE", f"/v1/videos/{video['id']}")


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_whole_visit(
    server: Server, visit: Callable[..., Visit], size: tuple[int, int], language: str, tmp_path: Path
) -> None:
    clear(server)
    person = visit(server.url, size, language)
    words = person.words(language[:2])
    person.wait_for(".preset .time")
    assert person.page.evaluate("document.documentElement.lang") in {language, language[:2]}
    assert (person.page.title(), person.text("#generate")) == (words["title"], words["generate"])
    person.check_accessible()
    presses_too_early(person, words)
    fills_in(person)
    begins_and_cancels(person, words)
    makes_a_video(person, words)
    downloads(person, server, tmp_path / "video.mp4")
    copies_the_summary(person, server, words)
    person.check_quiet()


def presses_too_early(person: Visit, words: dict[str, str]) -> None:
    person.page.click("#generate")
    assert person.wait_for("#picture-error").inner_text() == words["noPicture"]
    assert person.page.evaluate("document.activeElement.id") == "picture"
    person.check_accessible()


def fills_in(person: Visit) -> None:
    person.drop(PHOTO, "image/jpeg")
    person.wait_for("#preview")
    assert person.find("#picture-error").count() == 0
    assert person.page.evaluate("document.querySelector('#preview').decode().then(() => true)")
    person.page.fill("#prompt", "the lanterns sway")
    person.page.click("#more summary")
    person.check_accessible()


def begins_and_cancels(person: Visit, words: dict[str, str]) -> None:
    person.page.click("#generate")
    person.wait_for("#cancel", LATER)
    person.wait_until(lambda: person.page.evaluate("document.querySelector('#progress').value") > 0, LATER)
    assert re.search(r"\d+.*40", person.text("#step"))  # step 1 of 40, in either language
    person.wait_until(lambda: re.search(r"\d", person.text("#left")))
    assert person.find("#queue li").count() == 1
    person.check_accessible()
    person.page.click("#cancel")
    assert person.wait_for("#stopped-title").inner_text() == words["cancelled"]
    assert person.page.evaluate("document.activeElement.id") == "result-title"
    person.check_accessible()


def makes_a_video(person: Visit, words: dict[str, str]) -> None:
    page = person.page
    page.check("[name=preset][value=preview]", force=True)
    page.fill("#seed", "7")
    page.click("#generate")
    person.wait_for("#video", LATER)
    assert person.text("#announcement") == words["completed"]
    shown = person.plays()
    assert (shown["videoWidth"], shown["videoHeight"]) == (320, 192)
    assert page.locator("#bar i").count() == 4
    assert words["denoise"] in (page.get_attribute("#bar", "aria-label") or "")
    page.click("#done summary")
    assert re.search(r"320 \S 192", person.text("#settings"))
    person.wait_until(lambda: person.find("#ended li").count() == 2)
    person.check_accessible()


def downloads(person: Visit, server: Server, to: Path) -> None:
    with person.page.expect_download() as downloading:
        person.page.click("#download")
    (video, _cancelled) = server.request("GET", "/v1/videos?limit=2").json()["data"]
    assert downloading.value.suggested_filename == f"{video['id']}.mp4"
    downloading.value.save_as(to)
    assert to.read_bytes() == server.content(video["id"])
    assert (video["prompt"], video["seed"]) == ("the lanterns sway", 7)


def copies_the_summary(person: Visit, server: Server, words: dict[str, str]) -> None:
    person.page.click("#summary-open")
    person.wait_until(lambda: person.text("#summary-said") == words["summaryCopied"])
    copied = person.page.evaluate("navigator.clipboard.readText()")
    assert copied == person.page.input_value("#summary-text")
    assert copied.splitlines()[0] == server.request("GET", "/v1/summary").json()["text"].splitlines()[0]
    person.check_accessible()
    person.page.keyboard.press("Escape")
    person.wait_until_gone("#summary")


def test_the_language_can_be_changed_and_is_remembered(server: Server, visit: Callable[..., Visit]) -> None:
    person = visit(server.url)
    person.wait_for(".preset")
    page = person.page
    page.click("#language")
    assert person.text("#generate") == person.words("zh")["generate"]
    page.reload()
    assert person.wait_for("#generate").inner_text() == person.words("zh")["generate"]
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert person.wait_for("#note").inner_text() == person.words("zh")["note.demo"]
    person.check_quiet()


def test_every_word_is_there_in_both_languages(server: Server, visit: Callable[..., Visit]) -> None:
    person = visit(server.url)
    english, chinese = person.words("en"), person.words("zh")
    assert english.keys() <= chinese.keys()
    scripts = "".join(path.read_text(encoding="utf-8") for path in WEB.glob("*.js"))
    wanted = set(re.findall(r'\bsay\("([\w.]+)"', scripts))
    wanted |= set(re.findall(r'data-(?:text|label|placeholder)="([\w.]+)"', (WEB / "index.html").read_text("utf-8")))
    assert wanted <= english.keys()
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", chinese[key])), key


def test_a_picture_can_be_pasted(server: Server, visit: Callable[..., Visit]) -> None:
    person = visit(server.url)
    page = person.page
    person.wait_for(".preset")
    page.evaluate(
        """async () => {
          const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 30 });
          const picture = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
          await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
        }"""
    )
    page.keyboard.press("Control+V")
    person.wait_for("#preview")
    person.wait_until(lambda: page.evaluate("document.querySelector('#preview').naturalWidth") == 40)
    person.check_quiet()


def test_text_that_is_pasted_stays_text(server: Server, visit: Callable[..., Visit]) -> None:
    person = visit(server.url)
    page = person.page
    person.wait_for(".preset")
    page.evaluate("navigator.clipboard.writeText('rain')")
    page.focus("#prompt")
    page.keyboard.press("Control+V")
    person.wait_until(lambda: page.input_value("#prompt") == "rain")
    assert person.find("#preview").count() == 0


def test_the_keyboard_is_enough(server: Server, visit: Callable[..., Visit]) -> None:
    clear(server)
    person = visit(server.url)
    page = person.page
    person.wait_for(".preset .time")

    def at() -> str:
        return str(page.evaluate("document.activeElement.id || document.activeElement.value"))

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if at() == name:
                return
        raise AssertionError(f"the Tab key does not lead to {name}")

    tab_to("picture")
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    choosing.value.set_files(PHOTO)
    person.wait_for("#preview")
    tab_to("standard")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("[value=preview]")
    tab_to("prompt")
    page.keyboard.type("rain")
    tab_to("generate")
    page.keyboard.press("Enter")
    person.wait_for("#cancel", LATER)
    tab_to("cancel")
    page.keyboard.press("Enter")
    person.wait_for("#stopped")
    tab_to("summary-open")
    page.keyboard.press("Enter")
    person.wait_for("#summary-text")
    tab_to("summary-close")
    page.keyboard.press("Enter")
    person.wait_until_gone("#summary")
    assert at() == "summary-open"
    person.check_quiet()


def test_each_format_is_shown_as_it_can_be(server: Server, visit: Callable[..., Visit]) -> None:
    clear(server)
    ids = {name: server.submit({**SMALL, "output_format": name, "prompt": name}) for name in ("webm", "gif", "png")}
    for video_id in ids.values():
        server.wait_for(video_id, "completed")
    person = visit(server.url)
    page = person.page

    def show(name: str) -> None:
        person.wait_for(f"#ended li:has-text('{name}') button").first.click()

    def name_of_download() -> str:
        with page.expect_download() as downloading:
            page.click("#download")
        return str(downloading.value.suggested_filename)

    show("webm")
    person.wait_for("#video")
    assert person.plays()["videoWidth"] == 64
    assert name_of_download() == f"{ids['webm']}.webm"
    show("gif")
    person.wait_for("#still")
    person.wait_until(lambda: page.evaluate("document.querySelector('#still').naturalWidth") == 64)
    assert person.find("#video").count() == 0
    assert name_of_download() == f"{ids['gif']}.gif"
    person.check_accessible()
    show("png")
    assert person.wait_for("#instead").inner_text() == person.words("en")["archive"]
    assert person.find("#still").count() == person.find("#video").count() == 0
    assert name_of_download() == f"{ids['png']}.zip"
    person.check_accessible()
    person.check_quiet()


def test_the_history_is_the_servers_and_can_be_shortened(server: Server, visit: Callable[..., Visit]) -> None:
    clear(server)
    for number in range(7):
        server.wait_for(server.submit({**SMALL, "prompt": f"picture {number}"}), "completed")
    person = visit(server.url, PHONE)
    page = person.page
    person.wait_until(lambda: person.find("#ended li").count() == 5)
    assert "picture 6" in person.find("#ended li").first.inner_text()
    assert page.locator("#ended li .bar i").count() == 5 * 4
    page.click("#more-videos")
    person.wait_until(lambda: person.find("#ended li").count() == 7)
    person.wait_until_gone("#more-videos")

    person.find("#ended li:has-text('picture 5') button").first.click()
    person.wait_for("#video")
    page.reload()
    person.wait_for("#video")  # what was looked at before is looked at again
    assert "picture 5" in page.locator("#ended [aria-current]").inner_text()

    page.once("dialog", lambda dialog: dialog.dismiss())
    person.find("#ended [aria-current] button").last.click()
    assert person.find("#video").count() == 1
    page.once("dialog", lambda dialog: dialog.accept())
    person.find("#ended [aria-current] button").last.click()
    person.wait_for("#empty")
    person.wait_until(lambda: person.find("#ended li:has-text('picture 5')").count() == 0)
    assert len(server.request("GET", "/v1/videos").json()["data"]) == 6
    person.check_quiet()


def test_a_person_sees_their_place_in_the_queue_and_can_look_at_another(
    server: Server, visit: Callable[..., Visit]
) -> None:
    clear(server)
    first = server.submit({**LONG, "prompt": "somebody else's"})
    server.wait_for_step(first)
    person = visit(server.url)
    page = person.page
    person.wait_for("#queue li")
    choose_photo(person)
    page.check("[name=preset][value=preview]", force=True)
    page.click("#generate")
    person.wait_until(lambda: person.find("#queue li").count() == 2)
    assert person.text("#left") == person.words("en")["ahead"].format(n=1)
    assert "somebody else's" in person.find("#queue li").first.inner_text()
    person.check_accessible()
    person.find("#queue li button").first.click()
    person.wait_until(lambda: re.fullmatch(r"Step \d+ of 200", person.text("#step")))
    person.find("#queue li").first.locator("button").last.click()
    person.wait_for("#stopped")
    person.find("#queue li").last.locator("button").last.click()
    person.wait_until_gone("#queue li")
    codes = [video["error"]["code"] for video in server.request("GET", "/v1/videos").json()["data"]]
    assert codes == ["cancelled", "cancelled"]
    person.check_quiet()


def test_one_press_makes_one_video_though_the_answer_is_lost(server: Server, visit: Callable[..., Visit]) -> None:
    clear(server)
    person = visit(server.url)
    page = person.page
    person.wait_for(".preset")
    choose_photo(person)
    keys = []

    def lose_the_first_answer(route: "Route") -> None:
        if route.request.method != "POST":
            return route.fallback()
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) > 1:
            return route.fallback()
        route.fetch()
        return route.abort("connectionreset")

    page.route("**/v1/videos", lose_the_first_answer)
    page.click("#generate")
    person.wait_for("#cancel", LATER)
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(server.request("GET", "/v1/videos").json()["data"]) == 1
    page.click("#cancel")
    person.wait_for("#stopped")
    page.click("#generate")
    person.wait_until(lambda: len(keys) == 3)
    assert keys[2] != keys[0]
    person.wait_for("#cancel")
    clear(server)


def test_what_the_server_refuses_is_said_in_its_words(
    server: Server, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    person = visit(server.url, PHONE)
    page = person.page
    person.wait_for(".preset")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    page.set_input_files("#picture", broken)
    page.click("#generate")
    said = server.post({}, broken.read_bytes()).json()["error"]["message"]
    assert person.wait_for("#error").inner_text() == said
    person.check_accessible()

    page.set_input_files("#picture", ROOT / "README.md")
    assert person.wait_for("#picture-error").inner_text() == person.words("en")["wrongType"]
    choose_photo(person)
    page.click("#more summary")
    page.fill("#seed", "-1")
    page.click("#generate")
    assert person.wait_for("#error").inner_text() == person.words("en")["badSeed"]


def test_a_video_that_is_gone_is_said(server: Server, visit: Callable[..., Visit]) -> None:
    clear(server)
    video_id = server.submit({**SMALL, "prompt": "soon gone"})
    server.wait_for(video_id, "completed")
    person = visit(server.url)
    show = person.wait_for("#ended li button").first
    person.page.route("**/v1/videos?*", lambda route: route.abort())  # the list is of a moment ago
    server.request("DELETE", f"/v1/videos/{video_id}")
    show.click()
    assert person.wait_for("#result-error").inner_text() == person.words("en")["gone"]
    person.wait_for("#empty")
    person.page.unroute("**/v1/videos?*")
    person.wait_until_gone("#history")


def test_a_server_that_starts_or_is_gone_is_said_and_waited_for(
    new_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    started = new_server("--no-warmup")
    person = visit(started.url, PHONE)
    words = person.words("en")
    before = words["gettingReady"].split("{")[0]
    assert person.wait_for("#server").inner_text().startswith(before)
    person.check_accessible()
    choose_photo(person)
    person.page.click("#generate")  # a video can be queued already
    person.wait_for("#cancel")
    person.wait_until_gone("#server", LATER)
    person.wait_for(".preset .time, .preset", LATER)
    person.wait_until(lambda: person.text("#step").startswith("Step"), LATER)

    port = started.url.rpartition(":")[2]
    started.stop()
    person.wait_until(lambda: person.find("#server").count() and person.text("#server") == words["offline"])
    person.check_accessible()
    new_server("--no-warmup", "--port", port)
    person.wait_until_gone("#server", LATER)
    person.wait_until(lambda: person.text("#step").startswith("Step"), LATER)  # the same video goes on
    person.page.click("#cancel")
    person.wait_for("#stopped")


def test_a_server_with_a_key_asks_for_it(new_server: Callable[..., Server], visit: Callable[..., Visit]) -> None:
    key = "a-key-of-some-length"
    guarded = new_server("--no-warmup", key=key, environment={"I2V_API_KEY": key})
    person = visit(guarded.url, PHONE)
    page = person.page
    person.wait_for("#key")
    assert person.find("#form").count() == 0
    person.check_accessible()
    page.fill("#key", "another")
    page.keyboard.press("Enter")
    person.wait_until(lambda: person.text("#key-label") == person.words("en")["keyWrong"])
    page.fill("#key", key)
    page.keyboard.press("Enter")
    person.wait_for("#form")
    guarded.wait_ready()
    video_id = guarded.submit({**SMALL, "prompt": "guarded"})
    person.wait_for("#history li button").first.click()
    person.wait_for("#video", LATER)
    assert person.plays()["videoWidth"] == 64
    assert guarded.video(video_id)["status"] == "completed"
    page.reload()
    person.wait_for("#video")
    assert key not in page.content()


@pytest.fixture
def claimed_card(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """The address of a server whose worker only claims to have a GPU with so many GiB."""
    with ExitStack() as opened:

        def make(gib: float, takes: int | None = None) -> str:
            card = Gpu(round(gib * GIB), takes=None if takes is None else lambda _task, _residency: takes)
            return opened.enter_context(served(opened.enter_context(open_shop(card, tmp_path, "i2vgen-xl"))))

        yield make


def test_what_does_not_fit_is_greyed_out_with_the_reason(
    claimed_card: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    person = visit(claimed_card(7.3), PHONE)
    page = person.page
    person.wait_for(".preset")
    page.click("#more summary")
    assert page.is_disabled("[value='40gb']")
    assert "GiB of memory" in page.locator(".preset:has([value='40gb']) .reason").inner_text()
    assert page.is_enabled("[value=standard]")
    assert page.is_checked("[value=standard]")
    person.check_accessible()
    person.check_quiet()


def test_what_the_server_says_of_each_choice_is_chinese_too(
    claimed_card: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    person = visit(claimed_card(4), PHONE, "zh-CN")
    person.wait_for(".preset")
    person.page.click("#more summary")
    for kind in (".reason", ".cost"):
        said = person.page.locator(kind)
        assert said.count() > 1
        for text in said.all():
            assert text.get_attribute("lang") == "zh-CN"
            assert not re.search(r"[a-z]{2}", text.inner_text().replace("GiB", ""))
    person.page.click("#language")
    assert "needs" in person.page.locator(".reason").first.inner_text()


def test_the_preset_of_this_machines_tier_stands_with_the_others(
    claimed_card: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    person = visit(claimed_card(23.5), PHONE)
    person.wait_for(".preset")
    badge = person.page.locator("#presets .preset:has([value='24gb']) .badge")
    assert badge.inner_text() == person.words("en")["thisMachine"]
    assert person.page.locator(".badge").count() == 1
    person.check_accessible()


def test_a_video_that_fails_says_why_in_the_servers_words(
    claimed_card: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    person = visit(claimed_card(23.5, takes=100 * GIB), PHONE, "zh-CN")
    person.wait_for(".preset")
    choose_photo(person)
    person.page.click("#generate")
    assert person.wait_for("#stopped-title").inner_text() == person.words("zh")["failed"]
    (video,) = requests.get(f"{person.server}/v1/videos", timeout=SOON).json()["data"]
    assert person.text("#stopped-why") == video["error"]["message"]
    assert person.page.get_attribute("#stopped-why", "lang") == "en"
    person.check_accessible()
    person.check_quiet()


def test_a_video_that_the_browser_cannot_play_can_be_downloaded(
    claimed_card: Callable[..., str], visit: Callable[..., Visit]
) -> None:
    person = visit(claimed_card(23.5))  # what it writes is no video
    person.wait_for(".preset")
    choose_photo(person)
    person.page.click("#generate")
    assert person.wait_for("#instead").inner_text() == person.words("en")["unplayable"]
    with person.page.expect_download() as downloading:
        person.page.click("#download")
    assert downloading.value.suggested_filename.endswith(".mp4")
    person.check_accessible()
