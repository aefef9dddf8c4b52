"""The cloud client with a server that misbehaves: refuses, hangs, cuts, floods, lies, sends elsewhere."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import threading
import time

import pytest

from cloud_servers import (
    DONE,
    END,
    EVENT_STREAM,
    LONG,
    Behaviour,
    Server,
    Visit,
    event,
    fine,
    free_port,
    says,
    without_proxies,
)
from edgemoe import Cancelled, CloudError
from edgemoe.cloud import Cloud, Endpoint, Piece, Usage
from edgemoe.cloud.events import LARGEST

QUESTION = [{"role": "user", "content": "Hello?"}]


def cloud_of(server: Server | int, **options: object) -> Cloud:
    port = server if isinstance(server, int) else server.port
    return Cloud(Endpoint("odd", f"http://127.0.0.1:{port}/v1", "model", **options))  # type: ignore[arg-type]


def failure(cloud: Cloud) -> tuple[str, CloudError]:
    """The text that came, and how it ended."""
    texts = []
    with pytest.raises(CloudError) as caught:
        texts += (piece.text for piece in cloud.stream(QUESTION))
    return "".join(texts), caught.value


def test_an_answer_with_usage() -> None:
    with Server(fine) as server:
        cloud = cloud_of(server, input_price=2.0, output_price=10.0)
        pieces = list(cloud.stream(QUESTION, temperature=0.5))
        assert pieces == [Piece("Hello"), Piece(" you."), Piece("", "stop", Usage(1000, 2000))]
        assert cloud.cost(1000, 2000) == pytest.approx(0.022)
        [visit] = server.visits
        assert b'"temperature": 0.5' in visit.body
        assert b'"stream_options": {"include_usage": true}' in visit.body
        assert "authorization" not in visit.head.lower()


# No connection, no answer


def test_nobody_listens() -> None:
    cloud = cloud_of(free_port(), retries=1)
    text, error = failure(cloud)
    assert "cannot be reached" in str(error)
    assert error.temporary
    assert not error.started
    assert not text


def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)
    cloud = Cloud(Endpoint("odd", "https://no-such-host.invalid/v1", "model", retries=0))
    assert "cannot be reached" in str(failure(cloud)[1])


def hangs(visit: Visit) -> None:
    visit.hang()


def hangs_after_head(visit: Visit) -> None:
    visit.answer("")
    visit.hang()


def drips_head(visit: Visit) -> None:
    visit.send("HTTP/1.1 200 OK\r\n")
    while not visit.gone.wait(0.05):
        visit.send("X")


def drips_comments(visit: Visit) -> None:
    visit.answer("")
    while not visit.gone.wait(0.05):
        visit.send(": still here\n\n")


@pytest.mark.parametrize("behaviour", [hangs, hangs_after_head, drips_head, drips_comments])
def test_no_token_in_time(behaviour: Behaviour) -> None:
    with Server(behaviour) as server:
        text, error = failure(cloud_of(server, first_token_timeout=0.5))
        assert "no token within 0.5 s" in str(error)
        assert not error.started
        assert not text
        assert server.visits[0].gone.wait(LONG)
        assert len(server.visits) == 1  # a time that has passed is not spent again


# An answer that stops


def test_a_stall_in_the_middle() -> None:
    def stalls(visit: Visit) -> None:
        visit.answer(event("Once upon"))
        visit.hang()

    with Server(stalls) as server:
        text, error = failure(cloud_of(server, stall_timeout=0.5))
        assert "nothing for 0.5 s" in str(error)
        assert error.started
        assert text == "Once upon"
        assert server.visits[0].gone.wait(LONG)


@pytest.mark.parametrize("end", ["", 'data: {"choi', DONE], ids=["cut", "cut in an event", "done without a reason"])
def test_a_cut_in_the_middle(end: str) -> None:
    with Server(says(event("Once"), event(" upon"), end)) as server:
        text, error = failure(cloud_of(server))
        assert "in the middle" in str(error)
        assert error.started
        assert text == "Once upon"
        assert len(server.visits) == 1  # what has begun is not begun again


def test_a_broken_chunked_body() -> None:
    def breaks(visit: Visit) -> None:
        part = event("Once")
        visit.answer(f"{len(part):x}\r\n{part}\r\n", headers=EVENT_STREAM + "Transfer-Encoding: chunked\r\n")

    with Server(breaks) as server:
        text, error = failure(cloud_of(server))
        assert "cut the connection" in str(error)
        assert text == "Once"


def test_a_slow_drip() -> None:
    def drips(visit: Visit) -> None:
        visit.answer("")
        while not visit.gone.wait(0.05):
            visit.send(event("a"))

    with Server(drips) as server:
        text, error = failure(cloud_of(server, stall_timeout=2.0, slowest=1000.0))
        assert "fewer than 1000 characters a second" in str(error)
        assert set(text) == {"a"}
        text, error = failure(cloud_of(server, total_timeout=1.0, slowest=0.0))
        assert "no end within 1 s" in str(error)
        assert error.started


def test_events_without_text_are_no_answer() -> None:
    def empty(visit: Visit) -> None:
        visit.answer(event("Once"))
        while not visit.gone.wait(0.05):
            visit.send(event(""))

    with Server(empty) as server:
        assert "nothing for 0.5 s" in str(failure(cloud_of(server, stall_timeout=0.5))[1])


def test_only_the_usage_is_missing() -> None:
    def hangs_at_the_end(visit: Visit) -> None:
        visit.answer(event("Hello") + END)
        visit.hang()

    for behaviour in (hangs_at_the_end, says(event("Hello"), END), says(event("Hello"), END, "nonsense\n")):
        with Server(behaviour) as server:
            *pieces, last = cloud_of(server).stream(QUESTION)
            assert pieces == [Piece("Hello")]
            assert last.finish_reason == "stop"
            assert last.usage is not None
            assert last.usage.estimated


# An answer that is none


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("<html>Hello</html>\n\n", "no event stream: a line that is no event's: .*<html>"),
        ("data: {not json}\n\n", "no JSON: {not json}"),
        ("data: [1, 2]\n\n", r"no object: \[1, 2\]"),
        ("data: {}\n\n", "another protocol: {}"),
        ('data: {"choices": [{"delta": {"content": 5}}]}\n\n', "another protocol"),
        ('data: {"choices": {"0": 1}}\n\n', "another protocol"),
        ('data: {"choices": [7]}\n\n', "another protocol"),
        ('data: {"choices": [], "usage": {"prompt_tokens": -1}}\n\n', "another protocol"),
        ("data: " + "[" * 100_000 + "\n\n", "no JSON"),
        ('data: {"error": {"message": "out of memory"}}\n\n', "reported an error: out of memory"),
        ("data: \x1b[31m\u202eevil\n\n", r"no JSON: \[31m evil"),
    ],
)
def test_malformed_events(sent: str, said: str) -> None:
    with Server(says(sent)) as server:
        _, error = failure(cloud_of(server))
        with pytest.raises(CloudError, match=said):
            raise error
        assert len(str(error)) < 400
        assert str(error).isprintable()


def test_bytes_that_are_no_text() -> None:
    with Server(lambda visit: (visit.answer(event("A")), visit.send(b"data: \xff\xfe\n\n"))[0]) as server:
        text, error = failure(cloud_of(server))
        assert "not UTF-8" in str(error)
        assert text == "A"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ("Content-Type: application/json\r\n", "application/json where text/event-stream should be: {.answer"),
        ("", "nothing where text/event-stream should be"),
        (EVENT_STREAM + "Content-Encoding: gzip\r\n", "text/event-stream, gzip where text/event-stream"),
    ],
)
def test_another_content_type(headers: str, said: str) -> None:
    with (
        Server(lambda visit: visit.answer('{"answer": 1}', headers=headers)) as server,
        pytest.raises(CloudError, match=said),
    ):
        list(cloud_of(server).stream(QUESTION))


def test_no_http_at_all() -> None:
    with Server(lambda visit: visit.send("SSH-2.0-server\r\n")) as server:
        assert "cut the connection" in str(failure(cloud_of(server, retries=0))[1])


@pytest.mark.parametrize("beginning", ["data: ", ": ", "", "data: x\n" * 20], ids=["data", "comment", "bare", "many"])
def test_a_line_without_an_end(beginning: str) -> None:
    """Bounded memory: the connection ends once a line is too long, long before the server has sent everything."""
    total, sent = 64 * LARGEST, []

    def floods(visit: Visit) -> None:
        visit.answer(beginning)
        for _ in range(total // 65536):
            visit.send(b"a" * 65536)
            sent.append(65536)

    with Server(floods) as server:
        assert f"a line of more than {LARGEST} bytes" in str(failure(cloud_of(server))[1])
        assert server.visits[0].gone.wait(LONG)
    assert sum(sent) < total // 2


def test_an_event_without_an_end() -> None:
    def floods(visit: Visit) -> None:
        visit.answer("")
        while True:
            visit.send(b"data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" * 1000)

    with Server(floods) as server:
        assert "an event of more than" in str(failure(cloud_of(server))[1])
        assert server.visits[0].gone.wait(LONG)


def test_an_error_without_an_end() -> None:
    def floods(visit: Visit) -> None:
        visit.answer("", status="400 Bad Request")
        while True:
            visit.send(b"a" * 65536)

    with Server(floods) as server:
        _, error = failure(cloud_of(server))
        assert "HTTP 400 Bad Request: aaa" in str(error)
        assert len(str(error)) < 400
        assert server.visits[0].gone.wait(LONG)


# Asking again


def refuses(status: str, headers: str = "", body: str = "") -> Behaviour:
    return lambda visit: visit.answer(body, status=status, headers=headers)


@pytest.mark.parametrize(
    "first",
    [
        refuses("500 Internal Server Error"),
        refuses("503 Service Unavailable"),
        refuses("429 Too Many Requests"),
        lambda visit: None,
        says(),
        says('data: {"error": {"code": 503, "message": "overloaded"}}\n\n'),
    ],
    ids=["500", "503", "429", "closed", "empty", "event"],
)
def test_a_passing_failure_is_not_seen(first: Behaviour) -> None:
    with Server(first, first, fine) as server:
        cloud = cloud_of(server)
        assert "".join(piece.text for piece in cloud.stream(QUESTION)) == "Hello you."
        assert len(server.visits) == 3
        assert len({visit.body for visit in server.visits}) == 1
        assert cloud.unavailable() is None


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found"])
def test_a_refusal_is_final(status: str) -> None:
    with Server(refuses(status, body='{"error": {"message": "no such model"}}')) as server:
        cloud = cloud_of(server)
        for _ in range(4):
            _, error = failure(cloud)
            assert f"HTTP {status}: no such model" in str(error)
            assert not error.temporary
        assert len(server.visits) == 4
        assert cloud.unavailable() is None  # the next request may be a better one


def test_attempts_are_counted() -> None:
    with Server(refuses("502 Bad Gateway", body="<h1>nginx</h1>")) as server:
        _, error = failure(cloud_of(server, retries=1))
        assert "HTTP 502 Bad Gateway: <h1>nginx</h1>" in str(error)
        assert error.temporary
        assert len(server.visits) == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_the_server_says_when_to_come_back(as_date: bool) -> None:
    def busy(visit: Visit) -> None:
        when = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "1"
        visit.answer("", status="429 Too Many Requests", headers=f"Retry-After: {when}\r\n")

    with Server(busy, fine) as server:
        assert list(cloud_of(server).stream(QUESTION))
        first, second = server.visits
        assert second.began - first.began > 0.9


def test_a_long_pause_is_not_waited_for() -> None:
    with Server(refuses("429 Too Many Requests", "Retry-After: 86400\r\n"), fine) as server:
        cloud = cloud_of(server)
        assert "HTTP 429" in str(failure(cloud)[1])
        assert "left alone" in (cloud.unavailable() or "")
        assert "left alone" in str(failure(cloud)[1])
        assert len(server.visits) == 1


def test_an_endpoint_that_keeps_failing_is_left_alone() -> None:
    with Server(refuses("500 Internal Server Error")) as server:
        cloud = cloud_of(server, retries=0)
        for _ in range(3):
            assert cloud.unavailable() is None
            assert "HTTP 500" in str(failure(cloud)[1])
        assert "left alone" in (cloud.unavailable() or "")
        assert "left alone" in str(failure(cloud)[1])
        assert len(server.visits) == 3


# Ending it


def endless(visit: Visit) -> None:
    visit.answer("")
    while True:
        visit.send(event("more "))
        time.sleep(0.01)


@pytest.mark.parametrize("behaviour", [endless, hangs, hangs_after_head])
def test_the_event_closes_the_connection(behaviour: Behaviour) -> None:
    with Server(behaviour) as server:
        cancel = threading.Event()
        timer = threading.Timer(0.5, cancel.set)
        timer.start()
        with pytest.raises(Cancelled):
            list(cloud_of(server).stream(QUESTION, cancel=cancel))
        assert server.visits[0].gone.wait(LONG)


def test_the_event_closes_the_connection_of_a_reader_that_rests() -> None:
    with Server(endless) as server:
        cancel = threading.Event()
        answer = cloud_of(server).stream(QUESTION, cancel=cancel)
        next(answer)
        cancel.set()
        assert server.visits[0].gone.wait(LONG)
        with pytest.raises(Cancelled):
            next(answer)


def test_an_event_that_is_set_asks_nobody() -> None:
    cancel = threading.Event()
    cancel.set()
    with Server(fine) as server:
        with pytest.raises(Cancelled):
            list(cloud_of(server).stream(QUESTION, cancel=cancel))
        assert not server.visits


def test_a_reader_that_leaves_closes_the_connection() -> None:
    with Server(endless) as server:
        for _ in cloud_of(server).stream(QUESTION):
            break
        gc.collect()
        assert server.visits[0].gone.wait(LONG)


@pytest.mark.parametrize("behaviour", [endless, hangs, hangs_after_head])
def test_cancelling_a_task_closes_the_connection(behaviour: Behaviour) -> None:
    async def ask(cloud: Cloud) -> None:
        async for _ in cloud.astream(QUESTION):
            pass

    async def give_up(cloud: Cloud) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ask(cloud), 0.5)

    with Server(behaviour) as server:
        cloud = cloud_of(server)
        asyncio.run(give_up(cloud))
        assert server.visits[0].gone.wait(LONG)
        assert cloud.unavailable() is None


def test_asyncio_sees_the_same_failures() -> None:
    texts = []

    async def ask(cloud: Cloud) -> None:
        async for piece in cloud.astream(QUESTION):
            texts.append(piece.text)

    with Server(says(event("Once"), event(" upon"))) as server:
        with pytest.raises(CloudError, match="in the middle") as caught:
            asyncio.run(ask(cloud_of(server)))
        assert caught.value.started
        assert "".join(texts) == "Once upon"
