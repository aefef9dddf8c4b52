"""Parts of the cloud client without a network: endpoints, keys, events, retries, the circuit breaker."""

from __future__ import annotations

import datetime
import json
import random
import subprocess
import sys

import keyring
import keyring.backend
import keyring.errors
import pytest
from keyring.compat import properties

from edgemoe import CloudError
from edgemoe.cloud import Cloud, Endpoint, estimated_usage
from edgemoe.cloud.breaker import Breaker
from edgemoe.cloud.events import EventError, EventParser
from edgemoe.cloud.protocol import request_body
from edgemoe.cloud.retries import LONGEST_WAIT, pause, retry_after

URL = "https://api.example.com/v1"

# Endpoints


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": ""}, "needs a name, not ''"),
        ({"model": None}, "needs a model, not None"),
        ({"base_url": "api.example.com/v1"}, "not 'api.example.com/v1'"),
        ({"base_url": "ftp://api.example.com"}, "needs a base_url like"),
        ({"base_url": "https://[::1"}, "no usable base_url"),
        ({"base_url": "https://api.example.com:99999/"}, "no usable base_url"),
        ({"base_url": "https://me:hunter2@api.example.com/v1"}, "name or password in its base_url"),
        ({"base_url": URL + "?key=hunter2"}, "a query"),
        ({"base_url": "http://api.example.com/v1", "key_variable": "K"}, "without TLS to api.example.com"),
        ({"connect_timeout": 0}, "connect_timeout must be seconds above 0, not 0"),
        ({"stall_timeout": float("nan")}, "stall_timeout must be"),
        ({"input_price": -1}, "input_price must be a number from 0, not -1"),
        ({"output_price": "3"}, "output_price must be a number from 0, not '3'"),
        ({"retries": 11}, "retries must be from 0 to 10, not 11"),
    ],
)
def test_endpoints_that_cannot_be(options: dict[str, object], said: str) -> None:
    with pytest.raises(CloudError, match=said) as caught:
        Endpoint(**({"name": "far", "base_url": URL, "model": "m"} | options))
    assert "hunter2" not in str(caught.value)


def test_a_key_without_tls() -> None:
    """Only to this machine, or where somebody wants it."""
    for host in ("localhost", "127.0.0.1", "[::1]"):
        Endpoint("near", f"http://{host}:8000/v1", "m", key_variable="K")
    Endpoint("near", "http://192.168.1.7:8000/v1", "m", key_variable="K", plain_http=True)
    Endpoint("near", "http://192.168.1.7:8000/v1", "m")


def test_prices_are_for_a_million_tokens() -> None:
    assert Endpoint("far", URL, "m", input_price=2.5, output_price=10.0).cost(1_000_000, 100_000) == 3.5


def test_estimates_count_bytes() -> None:
    usage = estimated_usage([{"role": "user", "content": "a" * 40}], "猫" * 4)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (14, 3, True)
    assert estimated_usage([{"role": "user", "content": [{"type": "text", "text": "a" * 40}]}], "").prompt_tokens > 14


@pytest.mark.parametrize(
    ("messages", "sampling", "said"),
    [
        ([], {}, "messages must be"),
        (["hello"], {}, "messages must be"),
        ([{"content": "hello"}], {}, "messages must be"),
        ([{"role": "user", "content": "hello"}], {"stream": False, "model": "x"}, "model, stream cannot be chosen"),
        ([{"role": "user", "content": "hello"}], {"temperature": float("nan")}, "cannot be written as JSON"),
        ([{"role": "user", "content": b"hello"}], {}, "cannot be written as JSON"),
    ],
)
def test_requests_that_cannot_be(messages: list[object], sampling: dict[str, object], said: str) -> None:
    with pytest.raises(CloudError, match=said):
        request_body("m", messages, sampling)


def test_any_text_can_be_asked() -> None:
    for text in ("\x00\ud800\uffff", "😀" * 1000, ""):
        assert json.loads(request_body("m", [{"role": "user", "content": text}], {}))["messages"][0]["content"] == text


# Keys


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    @properties.classproperty
    def priority(cls) -> float:
        return 1

    def get_password(self, service: str, username: str) -> str | None:
        if service == "locked":
            raise keyring.errors.KeyringLocked("it is locked")
        return {("edgemoe", "far"): "sk-ring", ("edgemoe", "me"): "sk-mine"}.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        raise keyring.errors.PasswordSetError("it is only read")


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(Ring())
    monkeypatch.delenv("TEST_CLOUD_KEY", raising=False)
    yield
    keyring.set_keyring(before)


def key_of(**options: str) -> str:
    """The key without the key: what of its text is replaced."""
    key = Endpoint("far", URL, "m", **options).key()
    assert key is not None
    return next(name for name in ("sk-ring", "sk-mine", "sk-env") if key.removed_from(name) == "[key]")


@pytest.mark.usefixtures("ring")
def test_keys_of_a_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_of(keyring="edgemoe") == "sk-ring"
    assert key_of(keyring="edgemoe/me") == "sk-mine"
    assert key_of(keyring="edgemoe", key_variable="TEST_CLOUD_KEY") == "sk-ring"
    monkeypatch.setenv("TEST_CLOUD_KEY", " sk-env\n")
    assert key_of(keyring="edgemoe", key_variable="TEST_CLOUD_KEY") == "sk-env"


@pytest.mark.usefixtures("ring")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key_variable": "TEST_CLOUD_KEY"}, "the endpoint 'far' has no key: the variable TEST_CLOUD_KEY is empty"),
        ({"keyring": "edgemoe/you"}, "the keyring's edgemoe/you is empty"),
        ({"keyring": "locked"}, "cannot be asked: it is locked"),
    ],
)
def test_keys_that_are_missing(options: dict[str, str], said: str) -> None:
    cloud = Cloud(Endpoint("far", URL, "m", **options))
    assert said in (cloud.unavailable() or "")
    with pytest.raises(CloudError, match=said):
        list(cloud.stream([{"role": "user", "content": "Hello"}]))


def test_a_keyring_that_is_not_installed() -> None:
    code = (
        "import sys; sys.modules['keyring'] = None\n"
        "from edgemoe.cloud import Cloud, Endpoint\n"
        f"print(Cloud(Endpoint('far', '{URL}', 'm', keyring='edgemoe')).unavailable())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'edgemoe[keyring]'" in shown


def test_a_key_that_no_header_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("sk-one\r\nX-Evil: 1", "sk-ключ", "two words"):
        monkeypatch.setenv("TEST_CLOUD_KEY", value)
        with pytest.raises(CloudError, match="characters that no key has") as caught:
            Endpoint("far", URL, "m", key_variable="TEST_CLOUD_KEY").key()
        assert value not in str(caught.value)


# Events

STREAM = (
    b"\xef\xbb\xbfdata: one\n\ndata:two\r\ndata: three\r\n\r\n: comment\n\nevent: x\nid: 7\nretry: 10\n"
    b"data: f\xc3\xbcnf\r\rdata\n\nid: 8\n\ndata:  six\n\ndata: lost"
)
EVENTS = ["one", "two\nthree", "fünf", "", " six"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_however_they_are_cut(size: int) -> None:
    parser = EventParser()
    parts = [STREAM[i : i + size] for i in range(0, len(STREAM), size)]
    assert [event for part in parts for event in parser.feed(part)] == EVENTS


@pytest.mark.parametrize("line", [b"<p>", b"Data: x", b" data: x", b"\x00", b"data : x", b"{}", b"\xff: x"])
def test_lines_that_are_no_events(line: bytes) -> None:
    with pytest.raises(EventError):
        list(EventParser().feed(b"data: fine\n\n" + line + b"\n"))


def test_any_bytes_are_events_or_an_error() -> None:
    draw = random.Random(1)
    pieces = [b"data: ", b"\r", b"\n", b"\n\n", b":", b"event", b"\xff", b"x" * 99, "ü".encode(), b"\x00", b"id: 1"]
    refused = 0
    for _ in range(3000):
        parser = EventParser()
        try:
            for _ in range(draw.randrange(12)):
                assert all(isinstance(event, str) for event in parser.feed(draw.choice(pieces)))
        except EventError:
            refused += 1
    assert 0 < refused < 3000


# Asking again


def test_pauses_grow_and_are_drawn() -> None:
    for attempt, most in ((0, 0.5), (1, 1.0), (3, 4.0), (9, 8.0)):
        drawn = [pause(attempt, None) or 0.0 for _ in range(500)]
        assert 0 <= min(drawn) < 0.1 * most
        assert 0.9 * most < max(drawn) <= most
        assert 2 <= (pause(attempt, 2.0) or 0.0) <= 2 + most
    assert pause(0, LONGEST_WAIT + 1) is None


def test_when_to_come_back() -> None:
    now = datetime.datetime(2026, 11, 22, 12, 0, 0, tzinfo=datetime.timezone.utc)
    for value, seconds in {
        "0": 0.0,
        " 7 ": 7.0,
        "Sun, 22 Nov 2026 12:01:30 GMT": 90.0,
        "Sunday, 22-Nov-26 12:01:30 GMT": 90.0,
        "Sun Nov 22 12:01:30 2026": 90.0,
        "Sun, 22 Nov 2026 11:00:00 GMT": 0.0,
        "9" * 400: float("9" * 12),
    }.items():
        assert retry_after(value, now) == seconds, value
    for value in (None, "", "soon", "-1", "1.5", "٣", "Sun, 99 Nov 2026 12:00:00 GMT", "\x00"):
        assert retry_after(value, now) is None, value


class Clock:
    """Time that only tests let pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.enter() is None
        breaker.failed()


def test_the_breaker_opens_and_probes() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fail(breaker, 2)
    assert breaker.enter() is None
    breaker.succeeded()
    fail(breaker, 3)
    assert "30 s" in (breaker.refuses() or "")
    clock.now = 29.9
    assert breaker.enter()
    clock.now = 30.1
    assert breaker.refuses() is None
    assert breaker.enter() is None
    assert "another request tries" in (breaker.enter() or "")  # one probe at a time
    breaker.failed()
    clock.now = 90.0
    assert breaker.enter()  # twice as long
    clock.now = 90.2
    assert breaker.enter() is None
    breaker.gave_up()  # a probe that said nothing lets another one pass
    assert breaker.enter() is None
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.refuses() is None


def test_the_breaker_waits_ten_minutes_at_most() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    fail(breaker, 3)
    for _ in range(20):
        clock.now += 600.1
        fail(breaker)
    breaker = Breaker(clock)
    assert breaker.enter() is None
    breaker.failed(86400.0)
    clock.now += 600.1
    assert breaker.refuses() is None
