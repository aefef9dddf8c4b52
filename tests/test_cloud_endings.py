"""When the cloud client asks again, when it leaves an endpoint alone, and how an answer is cancelled."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import threading
import time

import pytest

from cloud_servers import (
    LONG,
    QUESTION,
    Behaviour,
    Server,
    Visit,
    cloud_of,
    event,
    failure,
    fine,
    hangs,
    hangs_after_head,
    says,
)
from edgemoe import Cancelled, CloudError
from edgemoe.cloud import Cloud

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
