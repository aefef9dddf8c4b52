"""The cloud client with a server that misbehaves: refuses, hangs, cuts, floods, lies."""

from __future__ import annotations

import re
import time

import pytest

from cloud_servers import (
    DONE,
    END,
    EVENT_STREAM,
    LONG,
    QUESTION,
    Behaviour,
    Server,
    Visit,
    cloud_of,
    event,
    failure,
    fine,
    free_port,
    hangs,
    hangs_after_head,
    says,
    without_proxies,
)
from edgemoe import CloudError
from edgemoe.cloud import Cloud, Endpoint, Piece, Usage
from edgemoe.cloud.events import LARGEST


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


@pytest.mark.parametrize("location", ["//[abc", "http://[::1", ""])
def test_a_redirect_to_nowhere_is_an_error_like_others(location: str) -> None:
    with Server(lambda visit: visit.answer("", "302 Found", f"Location: {location}\r\n")) as server:
        _, error = failure(cloud_of(server))
        assert re.search("which is not followed|Invalid URL in location", str(error))


@pytest.mark.parametrize("host", ["api.exam_ple-\u00e9.com", "xn--a"])
def test_a_host_without_a_name_is_an_error_like_others(host: str) -> None:
    _, error = failure(Cloud(Endpoint("odd", f"https://{host}/v1", "m", retries=0)))
    assert "the endpoint 'odd'" in str(error)


def test_thoughts_of_either_name_count_as_an_answer() -> None:
    def thinks(visit: Visit) -> None:
        visit.answer("")
        for _ in range(3):
            visit.send(event(choices=[{"index": 0, "delta": {"reasoning": "Hm. "}}]))
            time.sleep(0.4)
        visit.send(event("Yes.") + END + DONE)

    with Server(thinks) as server:
        pieces = list(cloud_of(server, first_token_timeout=0.8, slowest=0.0).stream(QUESTION))
    assert "".join(piece.thought for piece in pieces) == 3 * "Hm. "
    assert "".join(piece.text for piece in pieces) == "Yes."


@pytest.mark.parametrize("usage", [{"prompt_tokens": None}, {"total_tokens": 3}, {"prompt_tokens": -1}, [3]])
def test_an_answer_with_unusable_usage_is_whole(usage: object) -> None:
    last = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=usage)
    with Server(says(event("Yes.") + last + DONE)) as server:
        pieces = list(cloud_of(server).stream(QUESTION))
    assert "".join(piece.text for piece in pieces) == "Yes."
    assert pieces[-1].finish_reason == "stop"
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.estimated


def test_the_time_for_all_counts_for_the_first_token() -> None:
    with Server(hangs_after_head) as server:
        _, error = failure(cloud_of(server, total_timeout=0.5, retries=0))
    assert "no token within 0.5 s" in str(error)
