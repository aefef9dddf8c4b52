"""What an answer costs: in one line while it comes and when it is there, and since the model was loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.experts.stats import Stats


def footer(answer: Stats, tokens: int) -> str:
    """`answer` is the growth of the counters during one answer of so many tokens."""
    if not tokens:
        return f"no answer · peak {format_size(answer.peak_bytes)}"
    parts = [
        f"{tokens} token{'' if tokens == 1 else 's'}",
        f"{answer.decode_tps:.1f} tok/s",
        f"{answer.time_to_first_token:.2f} s to the first",
        f"{answer.hit_rate:.0%} hits",
        f"{answer.bytes_per_token / 2**20:.1f} MiB read per token",
        f"peak {format_size(answer.peak_bytes)}",
    ]
    return " · ".join(parts)


def live(answer: Stats) -> list[str]:
    """How an answer comes along, the most important first."""
    budget = f" / {format_size(answer.budget_bytes)}" if answer.budget_bytes else ""
    parts = [f"{answer.decode_tps:.1f} tok/s"] if answer.decode_tokens else []
    parts.append(f"{format_size(answer.rss_bytes)}{budget}")
    if answer.used_weights:
        parts += [f"{answer.hit_rate:.0%} hits", f"{answer.bits_per_weight:.1f} bits"]
    return parts


def report(total: Stats) -> list[tuple[str, str]]:
    """All counters since the model was loaded, as names and values for people."""
    budget = format_size(total.budget_bytes) if total.budget_bytes else "none"
    memory = f"{format_size(total.rss_bytes)} now, peak {format_size(total.peak_bytes)}, budget {budget}"
    cache = f"{format_size(total.resident_bytes)} of {format_size(total.cache_bytes)} in use"
    if not total.prompt_tokens:
        return [("answers", "none yet"), ("cache", cache), ("memory", memory)]
    return [
        ("prompt", f"{total.prompt_tokens} tokens, {total.prompt_tps:.1f} tok/s"),
        ("answers", f"{total.decode_tokens} tokens, {total.decode_tps:.1f} tok/s"),
        ("experts in memory", f"{total.hit_rate:.1%} of those used ({total.hits} hits, {total.misses} misses)"),
        ("bits per weight", f"{total.bits_per_weight:.2f}"),
        ("read", f"{format_size(total.bytes_read)}, {total.bytes_per_token / 2**20:.2f} MiB per token"),
        ("waited for reads", f"{total.io_wait:.2f} s"),
        ("cache", cache),
        ("memory", memory),
    ]
