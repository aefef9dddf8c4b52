"""The command line: one module per verb, imported when it is used."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

import click

from edgemoe import __version__
from edgemoe.errors import EdgeMoEError

GROUPS = {
    "Run a model": (
        "chat",
        "run",
        "serve",
        "ps",
    ),
    "Get models": (
        "pull",
        "list",
        "show",
        "rm",
    ),
    "Make them smaller": (
        "pack",
        "verify",
        "unpack",
    ),
    "Measure and plan": (
        "plan",
        "bench",
        "eval",
    ),
    "Choose who answers": ("route",),
    "This installation": (
        "doctor",
        "completion",
    ),
}
"""Verbs by what one wants to do."""
VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)
"""Each is the module `edgemoe.cli.VERB` with a click command named `command`."""

_MEANT = {
    "ls": "list",
    "remove": "rm",
    "delete": "rm",
    "download": "pull",
    "get": "pull",
    "info": "show",
    "quantize": "pack",
    "help": "--help",
}
"""What other programs call the verbs."""

_BAD_INPUT = 2
_INTERRUPTED = 130


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS]  # edgemoe.cli.list is the verb once it is imported

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"edgemoe.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and name[:1].isalpha() and not ctx.resilient_parsing:
            near = [_MEANT[name]] if name in _MEANT else difflib.get_close_matches(name, VERBS, n=1)
            hint = f": did you mean edgemoe {near[0]}?" if near else ""
            ctx.fail(f"there is no command {name!r}{hint}")
        found = super().resolve_command(ctx, args)
        if found[1] is not None and not ctx.resilient_parsing:
            _note_repeated(click.Context(found[1], ctx, name), found[2])
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        limit = formatter.width - 6 - max(map(len, VERBS))
        width = max(map(len, VERBS))
        for title, verbs in GROUPS.items():
            commands = {verb: self.get_command(ctx, verb) for verb in verbs}
            rows = [(verb.ljust(width), found.get_short_help_str(limit)) for verb, found in commands.items() if found]
            with formatter.section(title):
                formatter.write_dl(rows)


def _note_repeated(context: click.Context, arguments: list[str]) -> None:
    """Says of options that were given more than once which value holds; of wrong arguments somebody else says so."""
    command = context.command
    try:
        values, rest, order = command.make_parser(context).parse_args([*arguments])
    except click.UsageError:
        return
    for option in dict.fromkeys(order):
        counts = isinstance(option, click.Option) and not (option.multiple or option.count or option.is_flag)
        if counts and order.count(option) > 1:
            click.echo(
                f"edgemoe: {option.opts[-1]} was given {order.count(option)} times: {values[option.name]} holds",
                err=True,
            )
    if isinstance(command, click.Group) and rest and (inner := command.get_command(context, rest[0])):
        _note_repeated(click.Context(inner, context, rest[0]), rest[1:])


@click.group(
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="edgemoe", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Run Mixture-of-Experts GGUF models that are bigger than your memory.

    MODEL is a file, or the name of a model that was pulled.

    \b
    Examples: edgemoe chat    (with the small model that comes with edgemoe)
              edgemoe pull unsloth/Qwen3-30B-A3B-GGUF
              edgemoe chat qwen3-30b-a3b --memory 4GiB
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    A wrong input or an EdgeMoEError is a message on stderr and code 2; Ctrl-C is code 130.
    """
    try:
        code = cli.main(arguments, prog_name="edgemoe", standalone_mode=False)
    except click.ClickException as error:
        code = _fail(_one_line(error))
    except EdgeMoEError as error:
        code = _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message} (see '{context.command_path} --help')" if context else message


def _fail(message: str) -> int:
    click.echo(f"edgemoe: {message}", err=True)
    return _BAD_INPUT
