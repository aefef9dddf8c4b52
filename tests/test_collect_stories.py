"""More stories are collected from files that are named by their hash, in every form that samples come in."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"
END = "<|endoftext|>"
PLACES = (
    "garden",
    "river",
    "forest",
    "kitchen",
    "mountain",
    "village",
    "harbour",
    "meadow",
    "castle",
    "valley",
    "cave",
)


def story(hero: str, place: str) -> str:
    """Long enough to be kept; stories of two heroes in two places have few runs of words in common."""
    return (
        f"One {place} had a {hero} in it. Each {hero} of that {place} sang when rain fell on the {place}, and the old "
        f"{hero} sang best. So people came to the {place} with cakes for every {hero}. A girl of the {place} asked the "
        f"{hero} why it sang. Because the {place} is my home, said the {hero}, and each {hero} is happy in a {place}."
    )


@pytest.fixture(scope="module")
def parts() -> Iterator[dict[str, ModuleType]]:
    sys.path.insert(0, str(TOOLS))
    try:
        yield {name: importlib.import_module(f"default_model.{name}") for name in ("blobs", "samples", "overlap")}
    finally:
        sys.path.remove(str(TOOLS))


class Repositories(BaseHTTPRequestHandler):
    """Speaks as much of GitHub's interface as the tool asks for."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        data = self.files.get(self.path.rpartition("/")[2])
        known = data is not None and self.path.startswith("/repos/owner/name/git/blobs/")
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repositories() -> Iterator[tuple[str, dict[str, bytes]]]:
    files: dict[str, bytes] = {}
    handler = type("Handler", (Repositories,), {"files": files})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", files
        server.shutdown()


def vocabulary(texts: list[str]) -> bytes:
    """GPT-2's way of writing tokens, with one for each character that the texts have."""
    shown = {" ": "Ġ", "\n": "Ċ"}
    tokens = [END, *sorted(set("".join(texts)))]
    return json.dumps({shown.get(token, token): number for number, token in enumerate(tokens)}).encode()


def test_samples_of_every_form(parts: dict[str, ModuleType]) -> None:
    samples = parts["samples"]
    told = [story(hero, place) for hero, place in zip(("fox", "owl", "ant"), PLACES, strict=False)]
    words = vocabulary(told)
    numbers = {token: number for number, token in enumerate([END, *sorted(set("".join(told)))])}
    ids = [number for text in told for number in (*map(numbers.__getitem__, text), 0)]
    forms = {
        "jsonl": "\n".join(
            json.dumps({name: text}) for name, text in zip(("text", "story", "text"), told, strict=True)
        ),
        "csv": "text\n" + "\n".join(f'"{text}"' for text in told),
        "texts": json.dumps({"texts": told}),
        "nul": "\0".join(told),
        "single": "\n".join(told),
        "eot": END.join(["cut", *told, "off"]),
    }
    for form, text in forms.items():
        assert samples.split(text.encode(), form, samples.gpt2_decoder(words)) == told, form
    data = b"".join(number.to_bytes(2, "little") for number in [0, *ids])
    assert samples.split(data, "u16", samples.gpt2_decoder(words)) == told
    assert samples.split(b"He ran.She sat.They slept.", "eot", str) == ["She sat."]
    with pytest.raises(ValueError, match="zip is no form"):
        samples.split(b"", "zip", str)


def test_texts_are_cleaned_and_judged(parts: dict[str, ModuleType]) -> None:
    samples = parts["samples"]
    assert (
        samples.clean("â€œIt\u2019s   me\u201d , she said .\n\n He \u2013 ran\\nhome\u2026")
        == '"It\'s me", she said.\nHe - ran\nhome...'
    )
    good = story("fox", "garden")
    assert samples.fault(good) is None
    faults = {
        "short": "length",
        good[:-1]: "unfinished",
        good[0].lower() + good[1:]: "no beginning",
        good.replace("fox", "f\u00f6x"): "characters",
        good.replace("fox", "[fox]"): "characters",
        good.replace("Because", '"Because'): "quotes",
        "The dog ran to the dog. " * 20: "repetition",
        good.replace("fox", "FOX"): "capitals",
    }
    for text, fault in faults.items():
        assert samples.fault(text.strip()) == fault, text


def run(folder: Path, server: str, origins: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
    (folder / "origins.json").write_text(json.dumps(origins))
    command = [sys.executable, str(TOOLS / "collect_stories.py"), "-o", str(folder / "more.jsonl"), "--server", server]
    command += ["--training", str(folder / "train.jsonl"), "--held-out", str(folder / "valid.txt")]
    command += ["--origins", str(folder / "origins.json"), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_new_is_kept(
    tmp_path: Path, repositories: tuple[str, dict[str, bytes]], parts: dict[str, ModuleType]
) -> None:
    server, files = repositories
    known, apart, new, other = (
        story(hero, place) for hero, place in zip(("fox", "owl", "ant", "cow"), PLACES, strict=False)
    )
    (tmp_path / "train.jsonl").write_text(json.dumps({"src": "tinystories", "text": known}))
    (tmp_path / "valid.txt").write_text(apart + END)
    near_held_out = apart.replace("A girl", "A boy")
    files_of = {
        "a.jsonl": [known, apart, near_held_out, new, known.replace("cakes", "pies")],
        "b.jsonl": [new, other, "x"],
    }
    origins: dict[str, Any] = {"samples": []}
    for name, texts in (("vocab.json", []), *files_of.items()):
        data = vocabulary([new]) if not texts else "\n".join(json.dumps({"text": text}) for text in texts).encode()
        blob = parts["blobs"].hash_of(data)
        files[blob] = data
        entry = {"repo": "owner/name", "path": name, "blob": blob, "form": "jsonl"}
        if texts:
            origins["samples"].append(entry)
        else:
            origins["gpt2_vocabulary"] = entry
    done = run(tmp_path, server, origins)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "more.jsonl").read_text().splitlines()]
    assert [(record["text"], record["origin"]) for record in records] == [
        (new, "owner/name:a.jsonl"),
        (other, "owner/name:b.jsonl"),
    ]
    assert {record["src"] for record in records} == {"tinystories"}
    files.clear()  # what was got is kept
    assert run(tmp_path, server, origins).returncode == 0
    done = run(tmp_path, server, origins, "--keep", str(tmp_path / "empty"))
    assert (done.returncode, "404" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_another_file_is_refused(tmp_path: Path, repositories: tuple[str, dict[str, bytes]]) -> None:
    server, files = repositories
    (tmp_path / "train.jsonl").write_text("")
    (tmp_path / "valid.txt").write_text("")
    files["0" * 40] = b"{}"
    done = run(tmp_path, server, {"gpt2_vocabulary": {"repo": "owner/name", "blob": "0" * 40}, "samples": []})
    assert done.returncode == 1
    assert "holds another file: its hash is " in done.stderr
    assert not (tmp_path / "more.jsonl").exists()


def test_a_file_of_no_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("")
    for content, message in (
        (b"A story.", "has no lines of JSON"),
        (b"\xff", "JSON"),
        (b'{"src": "x"}', 'without a "text"'),
    ):
        (tmp_path / "train.jsonl").write_bytes(content)
        done = run(tmp_path, "http://127.0.0.1:9", {"gpt2_vocabulary": {}, "samples": []})
        assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_hashes_are_those_of_git(parts: dict[str, ModuleType]) -> None:
    assert parts["blobs"].hash_of(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert parts["blobs"].hash_of(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
