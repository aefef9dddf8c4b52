"""`edgemoe serve`: a model, or all that the configuration routes to, behind APIs of OpenAI, Anthropic and ollama."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemoe.cli import options
from edgemoe.errors import EdgeMoEError

if TYPE_CHECKING:
    from edgemoe.server.settings import Settings


@click.command(short_help="Serve models over OpenAI's, Anthropic's and ollama's APIs.")
@click.argument("model", required=False, type=options.MODEL_FILE)
@options.memory
@options.quality
@click.option(
    "--ctx", type=click.IntRange(min=16), metavar="N", help="Tokens of each request.  [default: as fits, up to 8192]"
)
@options.threads
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    metavar="N",
    help="Requests that are computed together; each has its own context.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=32,
    show_default=True,
    metavar="N",
    help="Requests that may wait for those; more are refused (429).",
)
@click.option("--route", is_flag=True, help='Serve the models of the configuration; "auto" lets the router choose.')
@click.option("--local-only", is_flag=True, help="With --route: nothing leaves this machine.")
@options.config
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at. Any but this machine's own needs an --api-key.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes one that is free."
)
@click.option(
    "--keep-alive",
    metavar="TIME",
    default="5m",
    show_default=True,
    help="Unload a model that nobody has used for so long: 30s, 5m, 1h or never.",
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="EDGEMOE_API_KEY",
    help="What every request has to send. Better set EDGEMOE_API_KEY: arguments can be seen by others.",
)
@click.option("--verbose", is_flag=True, help="Show every request.")
@click.pass_context
def command(
    context: click.Context,
    model: str | None,
    route: bool,
    local_only: bool,
    config: Path | None,
    host: str,
    port: int,
    keep_alive: str,
    api_key: str | None,
    verbose: bool,
    **asked: Any,
) -> None:
    """Serve MODEL, or the small model that comes with edgemoe, to programs that speak OpenAI's, Anthropic's or
    ollama's API.

    Ctrl-C ends it.

    Example: edgemoe serve model.gguf --memory 4GiB
    """
    from edgemoe.cli.console import quiet_library
    from edgemoe.server.durations import parse_duration
    from edgemoe.server.run import is_loopback, listen, serve
    from edgemoe.server.service import Service

    if not is_loopback(host) and not api_key:
        raise click.UsageError(f"--host {host} can be reached by others: set an --api-key")
    if not route and (local_only or config):
        raise click.UsageError(f"{'--local-only' if local_only else '--config'} means nothing without --route")
    seconds = parse_duration(keep_alive)
    settings = _routed(context, model, config, asked) if route else _alone(model, asked)
    limits = {"parallel": asked["parallel"], "queue": asked["queue"], "keep_alive": seconds}
    settings = dataclasses.replace(settings, local_only=local_only, **limits)
    _show_notes(verbose)
    quiet_library()
    with listen(host, port) as bound:
        service = Service(settings)
        _load(service, settings)
        greet = partial(_greet, settings, host, bound.getsockname()[1])
        serve(service, bound, api_key=api_key, host=host, verbose=verbose, on_start=greet)
    click.echo("edgemoe: stopped", err=True)


def _alone(model: str | None, asked: dict[str, Any]) -> Settings:
    """One model."""
    from edgemoe.config import LocalModel
    from edgemoe.default_model import default_model_path
    from edgemoe.hub.names import name_of as short_name
    from edgemoe.server.settings import Settings, name_of

    path = Path(model) if model else default_model_path()
    name = short_name(path) or name_of(path)
    served = LocalModel(name, path, quality=asked["quality"], ctx=asked["ctx"], threads=asked["threads"])
    return Settings({name: served}, asked["memory"])


def _routed(context: click.Context, model: str | None, config: Path | None, asked: dict[str, Any]) -> Settings:
    """What the configuration names."""
    from edgemoe.config import load_config
    from edgemoe.server.settings import AUTO, Settings

    given = [n for n in ("quality", "ctx", "threads") if _was_given(context, n)]
    if model is not None or given:
        what = "MODEL" if model is not None else f"--{given[0]}"
        raise click.UsageError(f"{what} is of one model: with --route the configuration names the models")
    settings = load_config(config)
    if _was_given(context, "memory"):
        settings = dataclasses.replace(settings, memory=asked["memory"])
    if AUTO in settings.local:
        raise EdgeMoEError(f"the configuration has a model called {AUTO!r}, which is the router's name: rename it")
    return Settings(settings.local, settings.memory, config=settings)


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _load(service: Any, settings: Settings) -> None:
    """One model is loaded at once, so that what is wrong with it shows now; of several, those that are asked for."""
    from edgemoe.cli.console import working

    if settings.config is None:
        [name] = settings.models
        with working(f"loading {name}"):
            service.preload(name)


def _greet(settings: Settings, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    names = ", ".join(settings.names) + (" (nothing leaves this machine)" if settings.local_only else "")
    click.echo(
        f"edgemoe: {names} at http://{shown}:{port}, with OpenAI's API and Anthropic's under /v1, ollama's under /api",
        err=True,
    )


def _show_notes(verbose: bool) -> None:
    """What the server logs, as lines like the program's other ones."""
    import logging

    logging.basicConfig(format="edgemoe: %(message)s", level=logging.WARNING)
    logging.getLogger("edgemoe.server").setLevel(logging.INFO if verbose else logging.WARNING)
