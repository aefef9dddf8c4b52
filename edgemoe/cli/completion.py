"""`edgemoe completion`: completion scripts for shells."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    Add `eval "$(edgemoe completion bash)"` to ~/.bashrc, the same with zsh to ~/.zshrc, or save the output for fish as
    ~/.config/fish/completions/edgemoe.fish.
    """
    from click.shell_completion import get_completion_class

    from edgemoe.cli import cli

    completion = get_completion_class(shell)
    if completion is None:
        raise click.BadParameter(f"{shell} is not supported")
    click.echo(completion(cli, {}, "edgemoe", "_EDGEMOE_COMPLETE").source())
