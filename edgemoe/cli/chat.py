"""`edgemoe chat`: talk to a model, or ask it one thing."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemoe.cli import options

if TYPE_CHECKING:
    from edgemoe.chat.session import ChatSession


@click.command()
@click.argument("model", required=False, type=options.MODEL_FILE)
@click.option("-p", "--prompt", help="Answer this and leave; a piped text does the same.")
@options.memory
@options.cache
@options.quality
@options.ctx
@options.threads
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True, help="0: the likeliest token."
)
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Draw from the most probable tokens that have this probability together.",
)
@click.option(
    "--top-k", type=int, default=40, show_default=True, help="Draw from so many tokens at the most; 0 for no limit."
)
@click.option(
    "--min-p",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Leave out tokens less probable than this share of the most probable one.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 2), help="Repeat an answer.  [default: random]")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Per answer.  [default: what fits]")
@click.option("--system", metavar="TEXT", help="The system prompt.")
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
    """
    from edgemoe.chat.session import ChatSession
    from edgemoe.cli.console import open_llama
    from edgemoe.conversation import use_own_template
    from edgemoe.default_model import default_model_path

    text = _single_prompt(prompt)
    if text is None and as_json:
        raise click.UsageError("--json needs a prompt: -p TEXT, or a piped text")
    if route:
        from edgemoe.cli.chat_routed import chat_routed

        chat_routed(context, text, config, as_json=as_json)
        return
    if local_only or config:
        raise click.UsageError(f"{'--local-only' if local_only else '--config'} means nothing without --route")
    path = Path(model) if model else default_model_path()
    arguments = options.llama_arguments(memory=memory, cache=cache, quality=quality, ctx=ctx, threads=threads)
    llm = open_llama(path, trace=trace, verbose=verbose, **arguments)
    with closing(llm):
        use_own_template(llm)
        session = ChatSession(llm, system, on_forget=_tell_forgotten)
        sampling["seed"] = _random_seed() if sampling["seed"] is None else sampling["seed"]
        if text is None:
            _talk(session, path.name, sampling)
        else:
            _answer(session, text, path.name, sampling, as_json)


def _single_prompt(prompt: str | None) -> str | None:
    """What to answer once, or None for a conversation."""
    if prompt is None and sys.stdin.isatty():
        if not sys.stdout.isatty():
            raise click.UsageError("a chat needs a terminal: give -p TEXT to get one answer")
        return None
    text = click.get_text_stream("stdin", errors="replace").read() if prompt is None else prompt
    if not text.strip():
        raise click.UsageError("the prompt is empty")
    return text.encode(errors="surrogateescape").decode(errors="replace")  # an argument may be no UTF-8


def _talk(session: ChatSession, name: str, sampling: dict[str, Any]) -> None:
    from edgemoe.chat.commands import Chat
    from edgemoe.chat.terminal import chat_loop
    from edgemoe.cli.console import console

    screen = console()
    greeting = f"{name}, {session.llm.n_ctx()} tokens of context. /help lists the commands."
    screen.print(greeting, style="dim", markup=False)
    chat_loop(Chat(session, screen, sampling))


def _answer(session: ChatSession, text: str, name: str, sampling: dict[str, Any], as_json: bool) -> None:
    from edgemoe.chat.terminal import printable
    from edgemoe.cli.console import console, print_json

    show = printable if sys.stdout.isatty() else str
    pieces: list[str] = []
    with closing(session.reply(text, **sampling)) as answer:
        for piece in answer:
            pieces.append(piece)
            if not as_json:
                click.echo(show(piece), nl=False)
    if as_json:
        print_json(_result(session, "".join(pieces), name, session.stats()))
        return
    click.echo()
    console(stderr=True).print(session.footer(), style="dim", markup=False, soft_wrap=True)


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


def _tell_forgotten() -> None:
    click.echo("(the context is full: the oldest turns are forgotten from here on)", err=True)


def _random_seed() -> int:
    import secrets

    return secrets.randbelow(2**32 - 1)
