#!/usr/bin/env python3
"""Write a Mixture-of-Experts GGUF of any size whose routing is not uniform, or measure a model's routing."""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from synthesize import tokenizer as tokenizers
from synthesize.measure import Measurement, measure
from synthesize.model import plan, write_model
from synthesize.shape import PRESETS, TYPE_NAMES, Shape

SIZES = {
    "layers": "number of layers",
    "experts": "experts in a layer",
    "top_k": "experts used by a token",
    "hidden": "channels of the residual stream",
    "width": "channels inside an expert",
    "heads": "query heads",
    "kv_heads": "key and value heads",
    "head_dim": "channels of a head",
    "vocab_size": "tokens in the vocabulary; the tokenizer is padded up to it",
}
TYPES = {
    "expert_type": "type of the experts' matrices",
    "attention_type": "type of the attention matrices",
    "embedding_type": "type of the token embedding",
    "output_type": "type of the output matrix",
}
EXAMPLES = """examples:
  synthesize_moe.py model.gguf --vocab ggml-vocab-qwen2.gguf
  synthesize_moe.py tiny.gguf --preset tiny --expert-type f16 --seed 7
  synthesize_moe.py --measure model.gguf --text english.txt --tokens 400
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        return run_measure(options) if options.measure else run_write(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"synthesize_moe.py: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Command line options."""
    result = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("output", nargs="?", type=Path, help="the GGUF file to write")
    result.add_argument(
        "--preset", choices=PRESETS, default="qwen3-30b-12l", help="shape to start from (default: %(default)s)"
    )
    result.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
    result.add_argument("--json", action="store_true", help="print the result as one JSON object")
    shape = result.add_argument_group("shape (default: the preset's)", "TYPE is one of " + ", ".join(TYPE_NAMES))
    for name, text in SIZES.items():
        shape.add_argument("--" + name.replace("_", "-"), type=int, metavar="N", help=text)
    for name, text in TYPES.items():
        shape.add_argument("--" + name.replace("_", "-"), type=str.lower, choices=TYPE_NAMES, metavar="TYPE", help=text)
    words = result.add_argument_group("vocabulary (default: a byte-level BPE learned from --text or a built-in sample)")
    words.add_argument("--vocab", type=Path, metavar="GGUF", help="copy the tokenizer of this file")
    words.add_argument("--text", type=Path, metavar="FILE", help="text to learn merges from, or to measure on")
    measuring = result.add_argument_group("measuring")
    measuring.add_argument(
        "--measure", type=Path, metavar="GGUF", help="decode --text with this model and report expert reuse"
    )
    measuring.add_argument("--tokens", type=int, default=400, help="tokens to decode, one by one (default: 400)")
    measuring.add_argument("--threads", type=int, default=2, help="threads to decode with (default: 2)")
    return result


def chosen_shape(options: argparse.Namespace) -> Shape:
    """The preset with what the options change."""
    changes = {name: value for name in (*SIZES, *TYPES) if (value := getattr(options, name)) is not None}
    shape = replace(PRESETS[options.preset], **changes)
    shape.check()
    return shape


def chosen_tokenizer(options: argparse.Namespace, shape: Shape) -> tokenizers.Tokenizer:
    """The tokenizer asked for, padded to the vocabulary's size."""
    if options.vocab:
        tokenizer = tokenizers.copied(options.vocab)
    else:
        text = options.text.read_text(encoding="utf-8") if options.text else None
        tokenizer = tokenizers.learned(text, shape.vocab_size)
    tokenizer.pad(shape.vocab_size)
    return tokenizer


def run_write(options: argparse.Namespace) -> int:
    """Write a model."""
    if options.output is None:
        raise ValueError("name the GGUF file to write, or a model to --measure")
    start = time.monotonic()
    shape = chosen_shape(options)
    tokenizer = chosen_tokenizer(options, shape)
    sizes = {tensor.name: tensor.nbytes for tensor in plan(shape, options.seed)}
    with progress(DownloadColumn()) as bar:
        task = bar.add_task("Writing", total=sum(sizes.values()))
        write_model(options.output, shape, options.seed, tokenizer, lambda _, count: bar.update(task, advance=count))
    expert_bytes = sum(size for name, size in sizes.items() if name.endswith("_exps.weight"))
    facts = {
        "path": str(options.output),
        "file_bytes": options.output.stat().st_size,
        "expert_bytes": expert_bytes,
        "dense_bytes": sum(sizes.values()) - expert_bytes,
        "token_embedding_bytes": sizes["token_embd.weight"],
        "seconds": round(time.monotonic() - start, 1),
        "seed": options.seed,
    }
    if options.json:
        print(json.dumps(facts | {"shape": asdict(shape)}))
    else:
        dense, embedding = (gigabytes(facts[key]) for key in ("dense_bytes", "token_embedding_bytes"))
        print(f"{options.output}: {gigabytes(facts['file_bytes'])} in {facts['seconds']} s")
        print(f"experts {gigabytes(expert_bytes)}, dense {dense}, of which the token embedding {embedding}")
    return 0


def run_measure(options: argparse.Namespace) -> int:
    """Measure a model's routing."""
    if options.text is None:
        raise ValueError("--measure needs a --text to decode")
    if options.tokens < 2:
        raise ValueError(f"--tokens is {options.tokens}; at least 2 are needed")
    text = options.text.read_text(encoding="utf-8")
    with progress(MofNCompleteColumn()) as bar:
        task = bar.add_task("Decoding", total=options.tokens)
        result = measure(options.measure, text, options.tokens, options.threads, lambda: bar.advance(task))
    print(json.dumps(asdict(result)) if options.json else described(result))
    return 0


def described(result: Measurement) -> str:
    """The measurement in words."""
    lines = [f"global LRU with {share:.0%} of the experts: {rate:.1%} hits" for share, rate in result.hit_rates.items()]
    lines.append(f"consecutive tokens share {result.shared_by_consecutive_tokens:.1%} of their experts")
    lines.append(f"experts per token: {result.expert_bytes_per_token / 1e6:.1f} MB")
    lines.append(f"largest logit in {result.tokens} tokens: {result.largest_logit:.1f}")
    return "\n".join(lines)


@contextmanager
def progress(amount: ProgressColumn) -> Iterator[Progress]:
    """A progress bar on standard error, gone when done."""
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar


def gigabytes(count: int) -> str:
    """Bytes as decimal gigabytes or megabytes."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


if __name__ == "__main__":
    sys.exit(main())
