"""Downloads that go on where they stopped, and are under their name only when they are complete and checked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx

from edgemoe.errors import DownloadError, WriteError
from edgemoe.files import locked, replace_file
from edgemoe.sizes import format_size

Progress = Callable[[int], None]
"""Told how many bytes more are there; a negative number when some have to be fetched again."""

_PAUSES = (0.5, 1.0, 2.0)
"""Seconds before the next attempts when nothing came in the last one."""
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_REQUEST = 4 << 30
"""Bytes that are asked for at once: networks that deliver files refuse answers of more than some 50 GB."""
_BLOCK = 1 << 20
_SPARE = 256 << 20
"""Bytes of the disk that a download leaves free."""
_NOT_SATISFIABLE = 416


@dataclass(frozen=True)
class Remote:
    """A file at a URL. `bytes` is None where the server does not say; `sha256` in hexadecimal, where it is known.

    `etag` names this version of the file, `git_sha1` is how git would name its content (small files of the hub).
    """

    url: str
    name: str
    bytes: int | None
    sha256: str | None = None
    etag: str | None = None
    git_sha1: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def look(url: str, name: str, headers: Mapping[str, str] | None = None) -> Remote:
    """What a server says of a file. Raises DownloadError when it is not there."""
    with _answers(name), _get(Remote(url, name, None, headers=headers or {}), _range(0, 0)) as answer:
        _check_status(answer, name)
        length = answer.headers.get("Content-Length", "")
        if answer.status_code == httpx.codes.PARTIAL_CONTENT:
            length = answer.headers.get("Content-Range", "").rpartition("/")[2]
        elif answer.headers.get("Content-Encoding", "identity") != "identity":
            length = ""
        etag = answer.headers.get("ETag")
        return Remote(url, name, int(length) if length.isdigit() else None, etag=etag, headers=headers or {})


def read_start(remote: Remote, start: int, count: int) -> bytes:
    """Up to `count` bytes from `start` on. Raises DownloadError."""
    last = start + count - 1
    with _answers(remote.name), _get(remote, _range(start, last)) as answer:
        _check_status(answer, remote.name)
        if answer.status_code != httpx.codes.PARTIAL_CONTENT and start:
            raise DownloadError(f"the server of {remote.name} cannot send parts of files")
        data = bytearray()
        for block in answer.iter_raw():  # a server that knows no ranges is not listened to until the end
            data += block
            if len(data) >= count:
                break
    return bytes(data[:count])


def check_room(folder: Path, wanted: int, what: str) -> int:
    """The free bytes of the disk with `folder`. Raises DownloadError when `wanted` more do not fit."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < wanted + _SPARE:
        raise DownloadError(
            f"the disk of {folder} has {format_size(free)} free, and {what} needs {format_size(wanted)} and leaves "
            f"{format_size(_SPARE)} free: make room (edgemoe rm), or choose another disk with HF_HOME or XDG_DATA_HOME"
        )
    return free


def download(remote: Remote, target: Path, progress: Progress) -> None:
    """Fetches `remote` as `target`, which appears when it is complete and its checksum is right.

    What came before is kept beside it and used the next time; other processes that fetch the same file wait.

    Raises:
        DownloadError: refused, broken off, or damaged on the way.
        WriteError: the file cannot be written.
    """
    partial = partial_of(target)
    with locked(partial):
        if _is_there(remote, target):
            progress(target.stat().st_size)
            return
        with _writing(partial), partial.open("ab+") as file:
            _forget_other_version(remote, partial, file)
            _Download(remote, file, progress).run()
            os.fsync(file.fileno())
        os.replace(partial, target)
        _version_of(partial).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        partial.with_name(f"{partial.name}.lock").unlink()


def _is_there(remote: Remote, target: Path) -> bool:
    """Whether `target` is what would be fetched, as far as that is known of it."""
    if not target.exists() or remote.bytes not in (None, target.stat().st_size):
        return False
    if remote.sha256 is None:
        return True
    digest = hashlib.sha256()
    with target.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == remote.sha256.lower()


def partial_of(target: Path) -> Path:
    """Where `target` grows."""
    return target.with_name(f"{target.name}.partial")


class _Download:
    """Appends to `file` until it is all of `remote`."""

    def __init__(self, remote: Remote, file: BinaryIO, progress: Progress) -> None:
        self._remote = remote
        self._file = file
        self._progress = progress
        self._sha256 = hashlib.sha256()
        self._done = 0

    def run(self) -> None:
        """Until the end, however many requests it takes. Raises DownloadError."""
        self._take_what_is_there()
        failures = 0
        while self._done != self._remote.bytes:
            before = self._done
            try:
                if self._request():
                    break
                if self._done == before:
                    raise httpx.ReadError("the server ends the answer too early")
            except httpx.TransportError as error:
                failures = 1 if self._done > before else failures + 1
                if failures > len(_PAUSES):
                    raise self._broken(error) from error
                time.sleep(_PAUSES[failures - 1])
        self._check()

    def _take_what_is_there(self) -> None:
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            self._took(block)
        if self._remote.bytes is not None and self._done > self._remote.bytes:
            self._start_again()

    def _took(self, block: bytes) -> None:
        self._sha256.update(block)
        self._done += len(block)
        self._progress(len(block))

    def _start_again(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._progress(-self._done)
        self._sha256, self._done = hashlib.sha256(), 0

    def _request(self) -> bool:
        """Fetches what it can; True at the end of a file whose size nobody knew."""
        size = self._remote.bytes
        last = None if size is None else min(size, self._done + _REQUEST) - 1
        wanted = _range(self._done, last) if self._done or (last or 0) + 1 != size else {}
        if wanted and self._remote.etag:
            wanted["If-Range"] = self._remote.etag
        with _get(self._remote, wanted) as answer:
            if answer.status_code == _NOT_SATISFIABLE and size is None:
                return True
            _check_status(answer, self._remote.name)
            if self._done and answer.status_code != httpx.codes.PARTIAL_CONTENT:
                self._start_again()  # the server knows no ranges, or has another version now
            for block in answer.iter_raw():
                self._file.write(block)
                self._took(block)
            if size is not None and self._done > size:
                raise self._wrong(f"has {format_size(self._done)} in place of {format_size(size)}")
        return size is None

    def _check(self) -> None:
        """Damage is not kept: the next attempt begins anew."""
        expected = self._remote.sha256
        if expected and self._sha256.hexdigest() != expected.lower():
            raise self._wrong(f"has SHA-256 {self._sha256.hexdigest()[:16]}... in place of {expected.lower()[:16]}...")
        if self._remote.git_sha1 and self._git_sha1() != self._remote.git_sha1:
            raise self._wrong("has another checksum than the hub says")

    def _git_sha1(self) -> str:
        """SHA-1 of "blob SIZE\\0" and the content (git-scm.com/book, Git Internals, Git Objects)."""
        digest = hashlib.sha1(b"blob %d\0" % self._done, usedforsecurity=False)
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            digest.update(block)
        return digest.hexdigest()

    def _wrong(self, what: str) -> DownloadError:
        self._file.truncate(0)
        return DownloadError(f"{self._remote.name} was damaged on the way: it {what}. The same command fetches it anew")

    def _broken(self, error: Exception) -> DownloadError:
        there = f"{format_size(self._done)} of {format_size(self._remote.bytes)}" if self._remote.bytes else "a part"
        kept = f"; {there} are there, and the same command goes on from them" if self._done else ""
        return DownloadError(f"{self._remote.name} cannot be fetched: {_reason(error)}{kept}")


def _forget_other_version(remote: Remote, partial: Path, file: BinaryIO) -> None:
    """A URL may have another file than when the download began; where that cannot be told, it begins anew."""
    version = remote.sha256 or json.dumps([remote.url, remote.etag, remote.bytes])
    kept = _version_of(partial)
    known = remote.sha256 or remote.etag
    if not known or not kept.exists() or kept.read_text(errors="replace") != version:
        file.truncate(0)
    replace_file(kept, version.encode())


def _version_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


# Requests


@contextlib.contextmanager
def _get(remote: Remote, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
    every = {"Accept-Encoding": "identity", **remote.headers, **headers}
    with httpx.stream("GET", remote.url, headers=every, follow_redirects=True, timeout=_TIMEOUT) as answer:
        yield answer


def _range(first: int, last: int | None) -> dict[str, str]:
    return {"Range": f"bytes={first}-{'' if last is None else last}"}


@contextlib.contextmanager
def _answers(name: str) -> Iterator[None]:
    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise DownloadError(f"{name} cannot be fetched: {_reason(error)}") from error


def _check_status(answer: httpx.Response, name: str) -> None:
    code = answer.status_code
    if code in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        return
    if code >= 500 or code == httpx.codes.TOO_MANY_REQUESTS:  # it may have passed in a moment
        raise httpx.ReadError(f"the server answers {code} {answer.reason_phrase}")
    reasons = {401: "it needs a login: set HF_TOKEN", 403: "access is refused", 404: "there is no such file"}
    raise DownloadError(f"{name} cannot be fetched: {reasons.get(code, f'the server answers {code}')}")


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "the server does not answer in time"
    if isinstance(error, httpx.ConnectError):
        return f"the server cannot be reached ({error})"
    return str(error) or "the connection was cut"


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written: {error.strerror}; what came is kept, and the same command goes on from it"
        ) from error
