"""One run of a program that decodes given tokens, in a fresh process under limits of memory and disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from control_groups import disk_group, forget_pages, memory_group, run_in
from edgemoe import machine
from edgemoe.bench.measure import Job
from edgemoe.residence import SHORTEST_HALF_LIFE

WORKER = Path(__file__).with_name("forced_decode.py")

Figures = dict[str, float]


@dataclass(frozen=True)
class Setting:
    """Limits that all programs of a comparison share; 0 is no limit. `tokens` are those counted after `warm`."""

    share: str
    cache: int
    memory: int
    disk: int
    warm: int
    tokens: int
    sequences: int | None = None


@dataclass(frozen=True)
class Program:
    """One that is measured: `command` is a peer's template, None for edgemoe and for stock llama.cpp (`stock`).

    With `lru` edgemoe keeps the experts that were used last.
    """

    label: str
    model: str
    quality: str = "exact"
    stock: bool = False
    lru: bool = False
    command: str | None = None


@dataclass(frozen=True)
class Text:
    path: Path
    ids: list[int]
    ids_path: Path


class Failed(Exception):
    """A run without a speed; the message says why."""


def run(program: Program, setting: Setting, text: Text, pattern: re.Pattern[str], timeout: float) -> Figures:
    """Figures of one run under the limits. Raises Failed."""
    stdin = None
    if program.command is None:
        command = [sys.executable, str(WORKER)]
        ids = text.ids[: setting.warm + setting.tokens]
        stdin = json.dumps({"job": dataclasses.asdict(job_of(program, setting)), "ids": ids, "warm": setting.warm})
    else:
        command = peer_command(program.command, program.model, setting, text)
    forget_pages([program.model])
    with contextlib.ExitStack() as stack:
        groups = [stack.enter_context(memory_group(setting.memory))] if setting.memory else []
        if setting.disk:
            groups.append(stack.enter_context(disk_group(setting.disk, [program.model])))
        try:
            done = run_in(groups, command, stdin=stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"not finished after {timeout:.0f} s: raise --timeout or lower --tokens") from None
        except OSError as error:
            raise Failed(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        raise Failed(f"ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1]) if stdin else peer_figures(done.stdout + done.stderr, pattern)


def job_of(program: Program, setting: Setting) -> Job:
    ctx = -(-(setting.warm + setting.tokens) // (setting.sequences or 1) // 256) * 256
    return Job(
        label=program.label,
        model=program.model,
        memory=None,
        prompt_tokens=0,
        tokens=setting.tokens,
        repeat=1,
        ctx=ctx,
        text="",
        cache=None if program.stock else f"{setting.cache}",
        quality=program.quality,
        stock=program.stock,
        sequences=setting.sequences,
        half_life=SHORTEST_HALF_LIFE if program.lru else None,
    )


def peer_command(template: str, model: str, setting: Setting, text: Text) -> list[str]:
    """The words of a peer's command. Raises click.UsageError for an unknown name in braces or an open quote."""
    values = {"model": model, "text": text.path, "ids": text.ids_path, "threads": machine.processors()}
    values |= {"cache": setting.cache, "cache_mib": setting.cache >> 20}
    values |= {"warm": setting.warm, "tokens": setting.tokens, "total": setting.warm + setting.tokens}
    try:
        return [word.format_map(values) for word in shlex.split(template)]
    except (KeyError, ValueError, IndexError) as error:
        raise click.UsageError(f"--peer command {template!r}: {error}; it may name {', '.join(values)}") from error


def peer_figures(output: str, pattern: re.Pattern[str]) -> Figures:
    """What a peer printed: its last match counts. Raises Failed."""
    matches = list(pattern.finditer(output))
    if not matches:
        raise Failed(f"--peer-pattern {pattern.pattern!r} is nowhere in its output, which ends with {output[-300:]!r}")
    try:
        figures = {name: float(value) for name, value in matches[-1].groupdict().items() if value is not None}
        return figures if "decode" in figures else {"decode": float(matches[-1][1]), **figures}
    except (ValueError, TypeError) as error:
        raise Failed(f"--peer-pattern {pattern.pattern!r} caught no number: {error}") from error


def with_bound(figures: Figures, disk_speed: float) -> Figures:
    """Adds `read_time`, seconds that the disk needs for a token's bytes, and `bubble`.

    A token that reads and computes at once takes at least max(read_time, compute); bubble is how many times that it
    took. 1.0 is perfect overlap.
    """
    if "io_wait" not in figures:
        return figures
    read_time = figures["read"] / disk_speed
    bubble = 1 / figures["decode"] / max(read_time, figures["compute"])
    return figures | {"read_time": read_time, "bubble": bubble, "disk_speed": disk_speed}
