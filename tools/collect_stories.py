"""Collects more TinyStories to train on, from the samples that public repositories keep.

    python tools/collect_stories.py -o more.jsonl --training train.jsonl.xz --held-out valid.txt

The stories are those of TinyStories (Eldan and Li, 2023), whose licence, CDLA-Sharing-1.0, sets no condition on what is
computed from them; the texts themselves stay under it. tools/default_model/origins.json names each file by its git
hash, which is checked. Left out is what the training text has already, and what comes near to a held-out text.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator
from pathlib import Path

import click

from default_model.blobs import GITHUB, Blobs
from default_model.overlap import HeldOut, Known, runs, words_of
from default_model.samples import END, clean, fault, gpt2_decoder, split
from default_model.stories import read_records

ORIGINS = Path(__file__).with_name("default_model") / "origins.json"
_MOST_SHARED = 0.25
FILE = click.Path(dir_okay=False, path_type=Path)
THERE = click.Path(exists=True, dir_okay=False, path_type=Path)


class Collection:
    """Stories that are new, in two lists: those with a beginning of their own, and the others."""

    def __init__(self, training: list[str], held_out: list[str]) -> None:
        self.new: list[dict[str, str]] = []
        self.usual: list[dict[str, str]] = []
        self._held_out = HeldOut(held_out)
        self._exact: set[str] = set()
        self._known = Known()
        for words in map(words_of, training):
            self._take(words)

    def _take(self, words: str) -> None:
        self._exact.add(words)
        self._known.add(runs(words))

    def offer(self, text: str, origin: str) -> str:
        """What became of a cleaned text, in a word."""
        if wrong := fault(text):
            return wrong
        words = words_of(text)
        if words in self._exact:
            return "known"
        if self._held_out.near(words):
            return "held out"
        usual = self._held_out.begins_alike(words)
        if usual and not self._held_out.is_far(words):
            return "held out"
        if self._known.shares(runs(words))[0] > _MOST_SHARED:
            return "known"
        self._take(words)
        record = {"src": "tinystories", "text": text, "origin": origin, "license": "CDLA-Sharing-1.0"}
        (self.usual if usual else self.new).append(record)
        return "kept"


def samples(blobs: Blobs, origins: dict[str, object]) -> Iterator[tuple[str, list[str]]]:
    """Where from, and the texts in it."""
    vocabulary = origins["gpt2_vocabulary"]
    decode = gpt2_decoder(blobs.get(vocabulary["repo"], vocabulary["blob"]))
    for file in origins["samples"]:
        yield f"{file['repo']}:{file['path']}", split(blobs.get(file["repo"], file["blob"]), file["form"], decode)


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.option("-o", "--output", type=FILE, required=True, help="Lines of JSON; replaced if it exists.")
@click.option("--training", type=THERE, required=True, help="Stories that there are already (.jsonl or .jsonl.xz).")
@click.option("--held-out", type=THERE, required=True, help=f"Texts to keep away from, with {END} between them.")
@click.option("--origins", type=THERE, default=ORIGINS, help="Which files.  [default: origins.json of the tool]")
@click.option("--server", default=GITHUB, show_default=True, help="That has them.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Files got.  [default: OUTPUT.blobs]")
def main(output: Path, training: Path, held_out: Path, origins: Path, server: str, keep: Path | None) -> None:
    apart = [text for text in held_out.read_text("utf-8").split(END) if text.strip()]
    blobs = Blobs(keep or output.with_suffix(".blobs"), server)
    try:
        collection = Collection([record["text"] for record in read_records(training)], apart)
        for origin, texts in samples(blobs, json.loads(origins.read_text("utf-8"))):
            count = collections.Counter(collection.offer(text, origin) for text in map(clean, texts) if text)
            click.echo(f"{origin}: " + ", ".join(f"{times:,} {name}" for name, times in count.most_common()))
    except (ValueError, KeyError) as error:
        raise click.ClickException(str(error)) from error
    found = collection.new + collection.usual
    partial = output.with_suffix(".partial")
    partial.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in found), "utf-8")
    partial.replace(output)
    click.echo(f"{output}: {len(found):,} stories, {sum(len(record['text']) for record in found) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
