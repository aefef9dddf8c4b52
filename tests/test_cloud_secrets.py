"""Where a cloud's key goes, and where it never does: other hosts, logs, errors, files, texts of objects."""

from __future__ import annotations

import logging
import pickle
import re
import ssl
import traceback
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from cloud_servers import END, QUESTION, Behaviour, Server, Visit, event, fine, hangs_up, says, without_proxies
from edgemoe import CloudError
from edgemoe.cloud import Cloud, Endpoint

KEY = "sk-secret-0123456789abcdef"
VARIABLE = "TEST_CLOUD_KEY"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without_proxies(monkeypatch)
    monkeypatch.setenv(VARIABLE, KEY)


def endpoint_of(server: Server, scheme: str = "http", **options: Any) -> Endpoint:
    url = f"{scheme}://127.0.0.1:{server.port}/v1"
    return Endpoint("odd", url, "model", key_variable=VARIABLE, retries=0, **options)


def echoes(visit: Visit) -> None:
    """As a debugging server might."""
    visit.answer(visit.head + visit.body.decode(), status="401 Unauthorized", headers="")


def echoes_in_an_event(visit: Visit) -> None:
    key = visit.head.split("Bearer ")[1].split("\r\n")[0]
    visit.answer(event(error={"message": f"bad key {key}"}))


def echoes_in_the_status(visit: Visit) -> None:
    key = visit.head.split("Bearer ")[1].split("\r\n")[0]
    visit.answer("", status=f"401 not {key}", headers="")


def echoes_at(place: int, how: str) -> Behaviour:
    """Sends the key back, so that the place where an error is cut lies within it."""

    def behaviour(visit: Visit) -> None:
        text = "x" * place + visit.head.split("Bearer ")[1].split("\r\n")[0]
        if how == "line":
            visit.answer(f"{text}: 1\n\n")
        elif how == "event":
            visit.answer(f"data: {text}\n\n")
        else:
            visit.answer(text, status="401 Unauthorized", headers="")

    return behaviour


FAILURES: dict[str, Behaviour] = {
    **{f"{how} {place}": echoes_at(place, how) for how in ("line", "event", "body") for place in (30, 50, 170, 190)},
    "echo": echoes,
    "event": echoes_in_an_event,
    "status": echoes_in_the_status,
    "closed": hangs_up,
    "no stream": says("hello\n\n"),
    "cut": says(event("a")),
    "no HTTP": lambda visit: visit.send(b"nonsense\r\n"),
    "slow": lambda visit: visit.hang(),
}


@pytest.mark.parametrize("behaviour", FAILURES.values(), ids=FAILURES)
def test_nothing_shows_the_key(behaviour: Behaviour, caplog: pytest.LogCaptureFixture) -> None:
    """No error, no traceback with the values of variables, no log of any library at its most talkative."""
    caplog.set_level(logging.DEBUG)
    with Server(behaviour) as server:
        cloud = Cloud(endpoint_of(server, first_token_timeout=1.0))
        with pytest.raises(CloudError) as caught:
            list(cloud.stream(QUESTION))
        assert f"Bearer {KEY}" in server.requests[0].head
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(told.format()) + caplog.text + repr(cloud) + repr(cloud.endpoint) + repr(vars(cloud))
    assert not [KEY[at : at + 8] for at in range(len(KEY) - 7) if KEY[at : at + 8] in shown]
    assert caught.value.__context__ is None  # errors of httpx lead to their requests
    assert not re.search("httpx|httpcore", caplog.text)


def test_other_users_of_httpx_keep_their_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Server(fine) as server:
        assert list(Cloud(endpoint_of(server)).stream(QUESTION))
        assert not re.search("httpx|httpcore", caplog.text)
        httpx.get(f"http://127.0.0.1:{server.port}/")
    assert "HTTP Request: GET" in caplog.text
    assert "receive_response_headers" in caplog.text


def test_a_key_is_not_written() -> None:
    key = Endpoint("odd", "https://api.example.com/v1", "m", key_variable=VARIABLE).key()
    assert key is not None
    assert KEY not in f"{key} {key!r} {[key]}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_redirect_leads_nowhere(status: int, host: str) -> None:
    with Server(fine) as other:
        headers = f"Location: http://{host}:{other.port}/v1/chat/completions?for=you\r\n"
        with Server(lambda visit: visit.answer("", status=f"{status} Moved", headers=headers)) as server:
            with pytest.raises(CloudError, match=f"leads to http://{host}:{other.port} .HTTP {status} Moved., which"):
                list(Cloud(endpoint_of(server)).stream(QUESTION))
            assert len(server.visits) == 1
        assert not other.visits


def test_cookies_are_not_kept() -> None:
    def sets(visit: Visit) -> None:
        visit.answer(event("Hello") + END, headers="Content-Type: text/event-stream\r\nSet-Cookie: id=7; Path=/\r\n")

    with Server(sets) as server:
        cloud = Cloud(endpoint_of(server))
        for _ in range(2):
            assert list(cloud.stream(QUESTION))
        assert len(server.visits) == 2
        assert not any("cookie" in visit.head.lower() for visit in server.visits)


# Certificates


def tls_of(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trust(authority: trustme.CA, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(folder / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))


def test_an_unknown_certificate() -> None:
    with Server(fine, tls=tls_of(trustme.CA(), "127.0.0.1")) as server:
        with pytest.raises(CloudError, match="a certificate that is not trusted"):
            list(Cloud(endpoint_of(server, "https")).stream(QUESTION))
        assert not server.requests


def test_a_certificate_of_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    trust(authority, tmp_path, monkeypatch)
    with Server(fine, tls=tls_of(authority, "example.org")) as server:
        with pytest.raises(CloudError, match="a certificate that is not trusted"):
            list(Cloud(endpoint_of(server, "https")).stream(QUESTION))
        assert not server.requests


def test_a_certificate_that_the_environment_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    trust(authority, tmp_path, monkeypatch)
    with Server(fine, tls=tls_of(authority, "127.0.0.1")) as server:
        assert len(list(Cloud(endpoint_of(server, "https")).stream(QUESTION))) == 3
        assert KEY in server.requests[0].head


# Proxies


def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(fine) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        cloud = Cloud(Endpoint("far", "http://models.example/v1", "model"))
        assert len(list(cloud.stream(QUESTION))) == 3
        assert proxy.requests[0].head.startswith("POST http://models.example/v1/chat/completions ")


def test_a_proxy_does_not_see_what_tls_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(lambda visit: visit.answer("", status="502 Bad Gateway", headers="")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        endpoint = Endpoint("far", "https://models.example/v1", "model", key_variable=VARIABLE, retries=0)
        with pytest.raises(CloudError, match="cannot be reached: 502 Bad Gateway"):
            list(Cloud(endpoint).stream(QUESTION))
        assert proxy.requests[0].head.startswith("CONNECT models.example:443 ")
        assert KEY not in proxy.requests[0].head


def test_no_proxy_stands_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(hangs_up) as proxy, Server(fine) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert len(list(Cloud(endpoint_of(server)).stream(QUESTION))) == 3
        assert not proxy.visits


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "gopher://user:hunter2@127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(CloudError, match="this environment's proxies") as caught:
        list(Cloud(Endpoint("far", "https://models.example/v1", "model")).stream(QUESTION))
    assert "hunter2" not in str(caught.value)
