"""The page at / in a headless Chromium: a person types, reads, stops, and watches the engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistants import HARD, answers, endpoint
from browsers import MISSING, Browser, chromium
from cloud_servers import Server
from edgemoe.config import Config, LocalModel
from page_audit import AUDIT
from serving import MODEL, PROMPT, Running, serving, until

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

ENTER, TAB, SHIFT, ESCAPE = "\ue007", "\ue004", "\ue008", "\ue00c"
ENDLESS = "Tell me a very long story about a dog, a bird, a fish, the sea, the moon and a house."
EVIL = (
    '<script>window.evil = 1</script><img src="http://127.0.0.1:9/x" onerror="window.evil = 2">\n\n'
    "**bold** and [a link](javascript:alert(1)) and ![a picture](http://127.0.0.1:9/y.png)\n\n"
    "```html\n<iframe src=x onload=alert(1)></iframe>\n```\n"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def opened(browser: Browser, url: str, **size: Any) -> None:
    """The page, ready; what earlier pages logged is forgotten, and what the browser keeps of them."""
    browser.open(url, **size)
    browser.run("sessionStorage.clear()")
    browser.open(url, **size)
    browser.messages()
    browser.until(lambda: browser.text("#model"))


def answer(browser: Browser) -> str:
    return browser.text(".assistant .body")


def ended(browser: Browser) -> str:
    """What stands below the newest answer when it is complete."""
    return browser.until(lambda: not browser.at("#send").get_attribute("hidden") and browser.text(".assistant footer"))


def busy(browser: Browser) -> bool:
    return browser.at("#stop").is_displayed()


def test_an_answer_streams_and_the_heat_map_fills(browser: Browser, server: Running) -> None:
    opened(browser, server.url)
    lengths = set()
    browser.press(PROMPT, ENTER)
    browser.until(lambda: lengths.add(len(answer(browser))) or (lengths - {0} and not busy(browser)))
    assert len(lengths) > 3
    assert re.search(r"\d+ tokens read.*, \d+ written · [\d.]+ tok/s · first after", ended(browser))
    assert browser.text(".user .body") == PROMPT
    assert browser.text(".assistant header") == MODEL
    assert browser.text("#status").startswith("Answer: ")
    assert answer(browser) in browser.text("#status")
    browser.until(lambda: re.search(r"^[1-9]\d* of 96 experts in 6 layers", browser.text("#heat-text")))
    painted = "const c = document.getElementById('heat');"
    painted += "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
    painted += "return d.filter((value, i) => i % 4 === 3 && value > 0).length / (c.width * c.height)"
    assert browser.run(painted) > 0.3
    assert browser.at("#heat").get_attribute("aria-label") == browser.text("#heat-text")
    browser.at("#heat-details summary").click()
    browser.until(lambda: browser.run("return document.querySelectorAll('#heat-rows tr').length") == 6)
    browser.until(lambda: re.search(r"of a budget of 4.00 GiB", browser.text("#memory-text")))
    assert 0 < int(browser.at("#memory").get_attribute("aria-valuenow")) < 100
    figures = r"Tokens per second[\d.]+ since the load.*Hit rate[\d.]+ %.*Read from disk[\d.]+ \w+/s.*0 of 4"
    browser.until(lambda: re.search(figures, browser.text("#figures")))
    assert MODEL in browser.text("#recent")
    assert not browser.messages()


def test_an_answer_can_be_stopped_and_asked_for_again(browser: Browser, server: Running) -> None:
    opened(browser, server.url)
    browser.run("document.getElementById('temperature').value = 2")  # at which stories hardly end
    browser.press(ENDLESS, ENTER)
    browser.until(lambda: len(answer(browser)) > 10)
    browser.at("#stop").click()
    assert "stopped" in ended(browser)
    until(lambda: server.service.in_progress == 0)
    kept = answer(browser)
    assert kept
    assert browser.focus() == "prompt"
    browser.at("#retry").click()
    browser.until(lambda: busy(browser) and answer(browser))
    browser.press(ESCAPE)
    assert "stopped" in ended(browser)
    assert browser.run("return document.querySelectorAll('.assistant').length") == 1
    browser.at("#clear").click()
    assert browser.run("return document.querySelectorAll('.message').length") == 0
    assert browser.at("#empty").is_displayed()


def test_choices_reach_the_server(browser: Browser, server: Running) -> None:
    opened(browser, server.url)
    browser.run(
        "const sent = window.sent = []; const send = window.fetch;"
        "window.fetch = (path, options) => (options.body && sent.push(options.body), send(path, options))"
    )
    browser.run("document.getElementById('more').open = true")
    for selector, text in (("#system", "You are a bird."), ("#temperature", "0"), ("#max-tokens", "5")):
        browser.at(selector).send_keys(text)
    browser.at("#quality").send_keys("fast")
    browser.at("#system").send_keys(ESCAPE)
    browser.at("#prompt").send_keys("Who are you?", ENTER)
    assert "5 written" in ended(browser)
    assert "cut off" in browser.text(".assistant footer")
    [body] = [json.loads(sent) for sent in browser.run("return window.sent")]
    assert body["messages"] == [
        {"role": "system", "content": "You are a bird."},
        {"role": "user", "content": "Who are you?"},
    ]
    assert (body["temperature"], body["max_tokens"], body["quality"], body["model"]) == (0, 5, "fast", MODEL)


def test_everything_can_be_reached_with_the_keyboard_alone(browser: Browser, server: Running) -> None:
    opened(browser, server.url)
    assert browser.focus() == "prompt"
    browser.press("One line")
    browser.press_with(SHIFT, ENTER)
    browser.press("and another.", ENTER)
    browser.until(lambda: answer(browser))
    assert browser.text(".user .body") == "One line\nand another."
    browser.press(ESCAPE)
    ended(browser)
    browser.run("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    browser.at("body").send_keys(TAB)
    order = [browser.focus()]
    for _ in range(20):
        browser.press(TAB)
        order.append(browser.focus())
    wanted = ["a", "model", "quality", "summary", "log", "prompt", "send", "retry", "clear", "summary"]
    places = iter(order)
    assert all(any(name == place for place in places) for name in wanted), order
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.run(outline) != "none" or browser.focus() == "body"


@pytest.mark.parametrize(("width", "height"), [(360, 740), (1400, 900)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_wide_light_and_dark(
    browser: Browser, server: Running, width: int, height: int, scheme: str
) -> None:
    opened(browser, server.url, width=width, height=height, prefers_color_scheme=scheme)
    browser.press(PROMPT, ENTER)
    ended(browser)
    browser.until(lambda: "experts in" in browser.text("#heat-text"))
    narrow = width < 960
    for view in ["chat", "engine"] if narrow else ["both"]:
        if narrow:
            browser.at(f"#show-{view}").click()
            assert browser.at("#chat").is_displayed() == (view == "chat")
            assert browser.at("#engine").is_displayed() == (view == "engine")
        assert browser.run("return document.documentElement.scrollWidth") <= width
        assert browser.run(AUDIT) == []
    dark = browser.run("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_the_audit_finds_what_is_wrong(browser: Browser, server: Running) -> None:
    opened(browser, server.url)
    browser.run(
        "const log = document.getElementById('log');"
        "const add = (tag, props) => log.append(Object.assign(document.createElement(tag), props));"
        "add('input', {}); add('button', {}); add('h6', {textContent: 'deep'});"
        "const p = document.createElement('p'); p.textContent = 'pale'; p.style.color = '#bbb';"
        "log.append(p); add('p', {id: 'prompt', textContent: 'x'})"
    )
    found = " ".join(browser.run(AUDIT))
    for wrong in ("input", "button", "h6", "pale", "prompt"):
        assert wrong in found


def test_motion_is_reduced_where_it_is_asked_for(browser: Browser, server: Running) -> None:
    moves = "const e = document.createElement('div'); e.className = 'body waiting'; document.body.append(e);"
    moves += "return getComputedStyle(e, '::after').animationName"
    opened(browser, server.url, prefers_reduced_motion="reduce")
    assert browser.run(moves) == "none"
    opened(browser, server.url, prefers_reduced_motion="no-preference")
    assert browser.run(moves) == "blink"


def test_what_a_model_writes_stays_text(browser: Browser, router_file: Path, tmp_path: Path) -> None:
    local = {"small": LocalModel("small", ctx=512, threads=1)}
    with Server(answers(*[EVIL[i : i + 7] for i in range(0, len(EVIL), 7)])) as cloud:
        config = Config(
            router=router_file, state=tmp_path, local=local, cloud={"big": endpoint(cloud)}, escalate="never"
        )
        with serving(models=local, config=config) as server:
            opened(browser, server.url)
            browser.press(HARD, ENTER)
            ended(browser)
            assert "<script>window.evil = 1</script>" in answer(browser)
            assert "<iframe" in browser.text(".assistant pre")
            assert browser.text(".assistant strong") == "bold"
            assert not browser.run("return window.evil")
            assert browser.run("return document.querySelectorAll('#log :is(script, img, iframe)').length") == 0
            links = "return [...document.querySelectorAll('#log a')].map((link) => link.href)"
            assert browser.run(links) == ["http://127.0.0.1:9/y.png"]  # a picture is a link, and is not loaded
            assert browser.text(".assistant header") == "big"
            assert "cloud" in browser.text(".assistant footer")
            browser.until(lambda: "By the cloud1" in browser.text("#route-figures"))
            assert not browser.messages()
            assert not [address for address in browser.requests() if "127.0.0.1:9/" in address]


def test_nothing_is_asked_from_another_host(browser: Browser, server: Running) -> None:
    browser.requests()
    browser.asked.clear()
    opened(browser, server.url)
    browser.press(PROMPT, ENTER)
    ended(browser)
    asked = browser.requests()
    assert f"{server.url}/v1/chat/completions" in asked
    assert [address for address in asked if not address.startswith(f"{server.url}/")] == []
    refused = "return fetch('http://127.0.0.1:9/').then(() => 'reached', (error) => String(error))"
    assert "Failed to fetch" in browser.run(refused)
    assert "Content Security Policy" in " ".join(browser.messages())


def test_the_page_asks_for_the_key(browser: Browser) -> None:
    with serving(api_key="a key") as server:
        browser.open(server.url)
        browser.run("sessionStorage.clear()")
        browser.open(server.url)
        browser.until(lambda: browser.focus() == "key")
        browser.press(ESCAPE)
        browser.press("wrong", ENTER)
        browser.until(lambda: "not the key" in browser.text("#key-error"))
        browser.press("a key", ENTER)
        browser.until(lambda: browser.text("#model"))
        browser.at("#prompt").send_keys(PROMPT, ENTER)
        assert "written" in ended(browser)
        assert browser.run("return JSON.stringify(localStorage)") == "{}"
        browser.open(server.url)
        browser.until(lambda: browser.text("#model"))


def test_errors_are_shown_and_can_be_tried_again(browser: Browser) -> None:
    with serving(parallel=1, queue=0) as server:
        opened(browser, server.url)
        server.service.in_progress = 1  # as if somebody else had the only place
        browser.press(PROMPT, ENTER)
        browser.until(lambda: "takes no more (try again in" in browser.text(".assistant [role=alert]"))
        server.service.in_progress = 0
        browser.at("#retry").click()
        assert "written" in ended(browser)
        assert not browser.text(".assistant [role=alert]")
    browser.until(lambda: "does not answer" in browser.text("#connection"))
