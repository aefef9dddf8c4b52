"""Files of public repositories, named by the hash git gives their content, so that nobody can change them unseen."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

GITHUB = "https://api.github.com"
_TIMEOUT = 120.0


class Blobs:
    """Gets files from `server`, which speaks GitHub's interface, and keeps them in `folder` under their hashes."""

    def __init__(self, folder: Path, server: str = GITHUB) -> None:
        self._folder = folder
        self._server = server.rstrip("/")

    def get(self, repository: str, blob: str) -> bytes:
        """The content.

        Raises:
            ValueError: when it cannot be had, or is another than the hash says.
        """
        path = self._folder / blob
        if path.exists():
            return _checked(path.read_bytes(), blob, str(path))
        url = f"{self._server}/repos/{repository}/git/blobs/{blob}"
        request = urllib.request.Request(url, headers={"Accept": "application/vnd.github.raw+json"})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                data = _checked(answer.read(), blob, url)
        except OSError as error:
            raise ValueError(f"{url} cannot be read: {error}") from error
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(path)
        return data


def _checked(data: bytes, blob: str, where: str) -> bytes:
    if (found := hash_of(data)) != blob:
        raise ValueError(f"{where} holds another file: its hash is {found}, not {blob}")
    return data


def hash_of(data: bytes) -> str:
    """What git calls a file with this content: SHA-1 of a header and the content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
