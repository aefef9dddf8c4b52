"""A server that speaks as much of the Hugging Face Hub's API as downloads need, and fails as one asks it to."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_secretofthetests"
REPOSITORY = "acme/Tiny-MoE-GGUF"
HOMES = ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HF_HOME")
PROGRAM = [sys.executable, "-m", "edgemoe"]


@dataclass
class Hub:
    """`files` by repository and name; what is asked of it can be changed while it runs."""

    url: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    """Files that are no repository's, under /files/."""
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers with a body of more than `long` bytes ends."""
    long: int = 1 << 17
    damaged: bool = False
    """Bytes of contents are wrong at their end."""
    broken: int = 0
    """So many requests for contents are answered with 503."""
    ranges: bool = True
    tell_size: bool = True
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(method, path, headers) of each request."""

    def add(self, repository: str, *paths: Path, folder: str = "") -> None:
        for path in paths:
            self.files.setdefault(repository, {})[folder + path.name] = path.read_bytes()

    def content(self, sha256: str) -> bytes | None:
        for files in self.files.values():
            for data in files.values():
                if hashlib.sha256(data).hexdigest() == sha256:
                    return data
        return None

    def asked(self, start: str) -> list[dict[str, str]]:
        """Headers of the GET requests whose path begins with `start`."""
        return [headers for method, path, headers in self.seen if method == "GET" and path.startswith(start)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.hub.seen.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        if match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/cdn/(\w+)", path):
            self._content(self.hub.content(match[1]), match[1])
        elif path.startswith("/files/"):
            data = self.hub.plain.get(path.removeprefix("/files/"))
            self._content(data, hashlib.md5(data or b"").hexdigest())
        else:
            self._answer(404)

    # The hub

    def _allowed(self, repository: str, revision: str) -> bool:
        authorized = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository not in self.hub.files or (repository in self.hub.private and not authorized):
            self._answer(401, {"X-Error-Code": "RepoNotFound"})
        elif repository in self.hub.gated and not authorized:
            self._answer(401, {"X-Error-Code": "GatedRepo"})
        elif revision not in ("main", "v1", COMMIT):
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return True
        return False

    def _info(self, repository: str, revision: str) -> None:
        if not self._allowed(repository, revision):
            return
        siblings = []
        for name, data in self.hub.files[repository].items():
            digest = hashlib.sha256(data).hexdigest()
            lfs = {"lfs": {"sha256": digest, "size": len(data), "pointerSize": 134}} if name.endswith(".gguf") else {}
            siblings.append({"rfilename": name, "size": len(data), "blobId": _git_sha1(data), **lfs})
        info = {"_id": "0", "id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        if not self._allowed(repository, revision):
            return
        data = self.hub.files[repository].get(name)
        if data is None:
            self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        digest = hashlib.sha256(data).hexdigest()
        elsewhere = self.hub.url.replace("127.0.0.1", "localhost")  # another host, as far as clients can tell
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{digest}"',
            "Location": f"{elsewhere}/cdn/{digest}?signed=yes",
        }
        self._answer(302, headers)

    # Contents

    def _content(self, data: bytes | None, etag: str) -> None:
        if data is None:
            self._answer(404)
            return
        if self.hub.broken:
            self.hub.broken -= 1
            self._answer(503)
            return
        if self.hub.damaged:
            data = data[:-64] + bytes(byte ^ 0xFF for byte in data[-64:])
        headers = {"ETag": f'"{etag}"'}
        code, start, end = 200, 0, len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, headers["ETag"])
        if self.hub.ranges and asked and same:
            start, end = int(asked[1]), min(len(data), int(asked[2] or len(data)) + 1)
            if start >= len(data):
                self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
                return
            code = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        self._answer(code, headers, data[start:end])

    def _answer(self, code: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        told = self.hub.tell_size or code != 200 or (headers or {}).get("Content-Type")
        if told:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        if len(body) > self.hub.long and self.hub.cuts:
            body = body[: self.hub.cuts.pop(0)]
            self.close_connection = True
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class Home:
    """A user's folders, empty at first."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.folder = folder
        self.hub = hub
        self.environment = os.environ | {name: str(folder / name) for name in HOMES} | {"HF_ENDPOINT": hub.url}
        self.environment.pop("HF_TOKEN", None)
        (folder / "XDG_RUNTIME_DIR").mkdir()
        self.cache = folder / "HF_HOME/hub" / f"models--{REPOSITORY.replace('/', '--')}"

    def know_this_machine(self) -> None:
        """Instead of measuring it."""
        import dataclasses

        from edgemoe.planning import kept
        from edgemoe.planning.machines import MACHINES

        profile = kept._Kept(kept.profile_path())
        profile.keep("machines", kept._machine_key(), dataclasses.asdict(MACHINES["x86-laptop"]))
        profile.keep("disks", kept._disk_key(self.folder), 500e6)

    def run(self, *arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | variables
        done = subprocess.run(
            [*PROGRAM, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, **variables: str) -> Any:
        return json.loads(self.run(*arguments, "--json", **variables).stdout)

    def names(self) -> list[str]:
        return [model["name"] for model in self.json("list") if "unfinished" not in model]


def write_remote_models(folder: Path, model_factory: Any) -> dict[str, Path]:
    """As the fixture `remote_models` says."""
    from edgemoe.packs.writer import pack

    found = {}
    for quant, kind in (("Q4_K_M", "Q4_K"), ("Q8_0", "Q8_0")):
        [path] = model_factory("qwen3moe", expert_type=kind)
        found[quant] = folder / f"Tiny-MoE-{quant}.gguf"
        found[quant].write_bytes(path.read_bytes())
    found["pack"] = folder / "Tiny-MoE.mwq.gguf"
    pack(str(found["Q4_K_M"]), found["pack"])
    first, second = model_factory("qwen3moe", expert_type="Q4_K", split_into=2)
    found["split"], found["second"] = (folder / f"Split-Q6_K-0000{i}-of-00002.gguf" for i in (1, 2))
    found["split"].write_bytes(first.read_bytes())
    found["second"].write_bytes(second.read_bytes())
    return found
