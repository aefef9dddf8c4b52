"""`edgemoe chat`: talk to a model, or ask it one thing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemoe.chat.settings import SAMPLING, Setting
from edgemoe.cli import options

if TYPE_CHECKING:
    from edgemoe.chat.session import ChatSession
    from edgemoe.cli.chat_sessions import Kept
    from edgemoe.llama import Llama

F = Callable[..., Any]

_FORGOTTEN = "the context is full: the oldest turns are left out from here on"


def _sampling(function: F) -> F:
    """An option for each setting of /set."""
    for setting in reversed(SAMPLING):
        name = setting.name.replace("_", "-")
        absent = f"  [default: {setting.absent}]" if setting.absent else ""
        metavar = "N" if setting.absent == "what fits" else None
        shown: dict[str, Any] = (
            {"default": setting.default, "show_default": True} if setting.default is not None else {}
        )
        function = click.option(
            f"--{name}", type=_kind(setting), metavar=metavar, help=f"{setting.help}{absent}" or None, **shown
        )(function)
    return function


def _kind(setting: Setting) -> Any:
    if setting.least is None and setting.most is None:
        return setting.kind
    kind = click.IntRange if setting.kind is int else click.FloatRange
    return kind(setting.least, setting.most)


@click.command(short_help="Talk to a model in the terminal, or ask it one thing.")
@click.argument("model", required=False, type=options.MODEL_FILE)
@click.option("-p", "--prompt", help="Answer this and leave; a piped text does the same.")
@options.memory
@options.cache
@options.quality
@options.ctx
@options.threads
@_sampling
@click.option("--system", metavar="TEXT", help="The system prompt.")
@click.option("--session", metavar="NAME", help="Keep the conversation, or go on with the one of this name.")
@click.option("--sessions", is_flag=True, help="List the conversations that were kept, and leave.")
@click.option("--route", is_flag=True, help="Let the prompt router choose who answers, by the configuration.")
@click.option("--local-only", is_flag=True, help="With --route: nothing leaves this machine.")
@options.config
@options.as_json
@click.option("--trace", type=click.Path(dir_okay=False), metavar="FILE", help="Record which experts each token used.")
@click.option("--verbose", is_flag=True, help="Show what llama.cpp logs.")
@click.pass_context
def command(
    context: click.Context,
    model: str | None,
    prompt: str | None,
    memory: str,
    cache: str | None,
    quality: str,
    ctx: int | None,
    threads: int | None,
    system: str | None,
    session: str | None,
    sessions: bool,
    route: bool,
    local_only: bool,
    config: Path | None,
    as_json: bool,
    trace: str | None,
    verbose: bool,
    **sampling: Any,
) -> None:
    """Talk to MODEL, or to the small model that comes with edgemoe.

    In the chat, /help lists the commands, Ctrl-C stops an answer and Ctrl-D leaves.

    Example: edgemoe chat model.gguf --memory 4GiB
    """
    from edgemoe.cli.chat_sessions import open_kept, print_sessions

    if sessions:
        print_sessions(as_json=as_json)
        return
    text = _single_prompt(prompt)
    if text is None and as_json:
        raise click.UsageError("--json needs a prompt: -p TEXT, or a piped text")
    if not route and (local_only or config):
        raise click.UsageError(f"{'--local-only' if local_only else '--config'} means nothing without --route")
    with open_kept(session) as kept:
        if route:
            from edgemoe.cli.chat_routed import chat_routed

            chat_routed(context, text, config, kept, as_json=as_json)
            return
        arguments = options.llama_arguments(memory=memory, cache=cache, quality=quality, ctx=ctx, threads=threads)
        given = {name: value for name, value in sampling.items() if options.was_given(context, name)}
        with _opened(model, trace=trace, verbose=verbose, **arguments) as (llm, name):
            _chat(llm, name, text, kept, system, given, as_json, _again(model))


@contextmanager
def _opened(model: str | None, **arguments: Any) -> Iterator[tuple[Llama, str]]:
    from edgemoe.cli.console import open_llama
    from edgemoe.conversation import use_own_template
    from edgemoe.default_model import default_model_path

    path = Path(model) if model else default_model_path()
    with closing(open_llama(path, **arguments)) as llm:
        use_own_template(llm)
        yield llm, path.name


def _again(model: str | None) -> list[str]:
    """What to type for this model."""
    from edgemoe.hub.names import name_of

    return [] if model is None else [name_of(model) or model]


def _chat(
    llm: Llama,
    name: str,
    text: str | None,
    kept: Kept,
    system: str | None,
    given: dict[str, Any],
    as_json: bool,
    again: list[str],
) -> None:
    from edgemoe.chat.session import ChatSession
    from edgemoe.chat.settings import Settings

    settings = Settings(given, own_defaults=True)
    if text is None:
        from edgemoe.chat.screen import Screen
        from edgemoe.cli.chat_sessions import talk
        from edgemoe.cli.console import console

        screen = Screen(console())
        session = ChatSession(llm, system, on_forget=lambda: screen.note(_FORGOTTEN))
        greeting = f"{name}, {llm.n_ctx()} tokens of context. /help lists the commands."
        talk(session, screen, settings, name, kept, system, greeting, again)
        return
    session = ChatSession(llm, system, on_forget=lambda: click.echo(f"({_FORGOTTEN})", err=True))
    kept.resume(session, settings, system)
    _answer(session, text, name, settings.sampling(), as_json)
    kept.keep(session, settings, name)


def _single_prompt(prompt: str | None) -> str | None:
    """What to answer once, or None for a conversation."""
    if prompt is None and sys.stdin.isatty():
        if not sys.stdout.isatty():
            raise click.UsageError("a chat needs a terminal: give -p TEXT to get one answer")
        return None
    text = sys.stdin.buffer.read().decode(errors="replace") if prompt is None else prompt
    if not text.strip():
        raise click.UsageError("the prompt is empty")
    return text.encode(errors="surrogateescape").decode(errors="replace")  # an argument may be no UTF-8


def _answer(session: ChatSession, text: str, name: str, sampling: dict[str, Any], as_json: bool) -> None:
    from edgemoe.chat.printable import printable
    from edgemoe.cli.console import console, print_json

    clean = printable if sys.stdout.isatty() else None
    pieces: list[str] = []
    with closing(session.reply(text, **sampling)) as answer:
        for piece in answer:
            pieces.append(piece)
            if not as_json:
                click.echo(clean(piece) if clean else piece, nl=False)
    if as_json:
        print_json(_result(session, "".join(pieces), name, session.stats()))
        return
    click.echo()
    console(stderr=True).print(session.footer(), style="dim", markup=False, soft_wrap=not sys.stderr.isatty())


def _result(session: ChatSession, text: str, name: str, stats: Any) -> dict[str, Any]:
    import dataclasses

    return {
        "model": name,
        "text": text,
        "finish_reason": session.finish_reason,
        "usage": {
            "prompt_tokens": session.prompt_tokens,
            "completion_tokens": session.completion_tokens,
            "total_tokens": session.prompt_tokens + session.completion_tokens,
        },
        "timing": {
            "time_to_first_token": stats.time_to_first_token,
            "prompt_seconds": stats.prompt_seconds,
            "decode_seconds": stats.decode_seconds,
            "prompt_tokens_per_second": stats.prompt_tps,
            "decode_tokens_per_second": stats.decode_tps,
        },
        "stats": dataclasses.asdict(stats) | {"hit_rate": stats.hit_rate, "bytes_per_token": stats.bytes_per_token},
    }
