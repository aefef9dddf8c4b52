"""`edgemoe eval`: how well a model predicts a text."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgemoe.cli import options
from edgemoe.errors import EdgeMoEError
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.bench.quality import Quality
    from edgemoe.llama import Llama

_CTX = 512


@click.command(name="eval", short_help="Measure a model's perplexity, or its distance from another.")
@click.argument("model", type=options.MODEL_FILE)
@click.option("--text", "text_file", required=True, type=options.FILE, help="The text, in UTF-8.")
@click.option("--against", type=options.MODEL_FILE, metavar="MODEL2", help="Compare with this model's predictions.")
@click.option("--ctx", type=click.IntRange(min=2), metavar="N", help="Tokens per window.  [default: 512 or as trained]")
@click.option("--tokens", type=click.IntRange(min=2), metavar="N", help="Use the first N tokens of the text.")
@click.option("--step", type=click.IntRange(min=1), metavar="N", help="Tokens evaluated at once.  [default: 32]")
@options.memory
@options.cache
@options.quality
@options.threads
@options.as_json
def command(
    model: str,
    text_file: str,
    against: str | None,
    ctx: int | None,
    tokens: int | None,
    step: int | None,
    memory: str,
    cache: str | None,
    quality: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure the perplexity of MODEL on a text, and its distance from another model.

    The text is cut into windows; the predictions in the second half of each count, as in llama.cpp's llama-perplexity.
    With --against, the Kullback-Leibler divergence KL(MODEL2 || MODEL) and the share of equal first choices are
    measured at the same places; both models are open at once, and MODEL gets half of --memory. --quality, --cache
    and --step are MODEL's. What a quality target waits for depends on the cache; --step 1 evaluates as text is
    generated.

    Example: edgemoe eval model.gguf --text english.txt
    """
    from edgemoe.budget import resolve_memory
    from edgemoe.cli.console import open_llama, print_json, print_rows, read_text

    n_ctx = ctx or _default_ctx(model)
    arguments = options.llama_arguments(ctx=n_ctx, threads=threads) | {"logits_all": True}
    text = read_text(Path(text_file))
    budget = resolve_memory(memory)
    own = budget // 2 if budget and against else budget  # a second model counts what the first may use as taken
    with ExitStack() as opened:
        llm = opened.enter_context(
            closing(open_llama(Path(model), memory=own, cache=cache, quality=quality, **arguments))
        )
        reference = None
        if against:
            reference = opened.enter_context(closing(open_llama(Path(against), memory=budget, **arguments)))
        before = llm.stats()
        measured = _measure(llm, reference, text, tokens, n_ctx, step)
        stats = llm.stats().since(before)
    if as_json:
        print_json(
            dataclasses.asdict(measured)
            | {"model": model, "quality": quality, "against": against, "bits_per_weight": stats.bits_per_weight}
            | {"bytes_per_token": stats.bytes_per_token, "hit_rate": stats.hit_rate, "peak_bytes": stats.peak_bytes}
        )
        return
    used = f"{stats.bits_per_weight:.2f} bits per weight, {format_size(round(stats.bytes_per_token))} read per token"
    print_rows([*_rows(measured), ("experts", used)])


def _default_ctx(model: str) -> int:
    from edgemoe.cli.console import quiet_library
    from edgemoe.packs.summary import summarize

    quiet_library()
    return min(_CTX, summarize(model).n_ctx_train or _CTX)


def _measure(
    llm: Llama, reference: Llama | None, text: str, limit: int | None, n_ctx: int, step: int | None
) -> Quality:
    from edgemoe.bench.quality import STEP, measure_quality, tokenize
    from edgemoe.cli.console import progress_bar

    tokens = tokenize(llm, text, limit)
    if reference is not None and tokenize(reference, text, limit) != tokens:
        raise EdgeMoEError("the models split the text into different tokens: their predictions cannot be compared")
    with progress_bar("windows") as progress:
        return measure_quality(llm, tokens, n_ctx=n_ctx, reference=reference, step=step or STEP, progress=progress)


def _rows(quality: Quality) -> list[tuple[str, str]]:
    rows = [
        ("perplexity", f"{quality.perplexity:.4f} ± {quality.perplexity_error:.4f}"),
        ("predictions", f"{quality.tokens} in {quality.windows} windows of {quality.n_ctx} tokens"),
    ]
    if quality.kl_divergence is None:
        return rows
    return [
        *rows,
        ("reference", f"perplexity {quality.reference_perplexity:.4f}"),
        ("change", f"{quality.perplexity_change:+.2%} ± {quality.perplexity_change_error:.2%}"),
        ("KL divergence", f"{quality.kl_divergence:.6f} mean, {quality.kl_divergence_max:.6f} at most"),
        ("first choices", f"{quality.top_agreement:.2%} equal"),
    ]
