"""Arguments that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from edgemoe.errors import EdgeMoEError

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False)


class _Model(click.ParamType):
    """A model: a file, a short name, or REPO[:FILE] of what was pulled. The value is the file's path."""

    name = "model"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from edgemoe.hub import resolve

        return str(resolve(value))  # its errors say it better than click's; whoever opens it says what is wrong with it

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names, and files where no name fits."""
        found = [CompletionItem(name) for name in known_names() if name.lower().startswith(incomplete.lower())]
        return found or [CompletionItem(incomplete, type="file")]


MODEL_FILE = _Model()


def known_names() -> list[str]:
    """Short names of models; none where their list is damaged."""
    from edgemoe.hub import model_names

    with suppress(EdgeMoEError):
        return model_names()
    return []


def unfinished_names() -> list[str]:
    """What rm calls downloads that did not come to their end."""
    from edgemoe.hub.unfinished import unfinished

    with suppress(EdgeMoEError):
        return [model.source or model.name for model in unfinished()]
    return []


def _complete_quality(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from edgemoe.experts.quality import EXACT, LEVELS, TARGETS

    words = (EXACT, *TARGETS, *(f"fixed:{level}" for level in LEVELS), "bits:3")
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


memory = click.option(
    "--memory",
    metavar="SIZE",
    default="auto",
    show_default=True,
    help="What the whole process may use: 4GiB, 800MB, 50% of the machine's memory, or auto.",
)
cache = click.option(
    "--cache", metavar="SIZE", help="For the experts, in place of what --memory leaves: a size or a share (20%)."
)
quality = click.option(
    "--quality",
    metavar="QUALITY",
    shell_complete=_complete_quality,
    default="exact",
    show_default=True,
    help="exact; of a pack also high, balanced, fast or a number (the error of a layer up to which planes are "
    "waited for), fixed:2, fixed:3 and so on (the planes up to this level), or bits:3.2 and the like (a mean of bits, "
    "chosen by the heads of a calibrated pack).",
)
ctx = click.option(
    "--ctx", type=click.IntRange(min=1), metavar="N", help="Tokens of context.  [default: as trained, or as fits]"
)
threads = click.option("--threads", type=click.IntRange(min=1), metavar="N", help="To compute with.  [default: cores]")
config = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The configuration.  [default: the user's]",
)
ray = click.option(
    "--ray",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="",
    help="Share the work among the machines of a Ray cluster; without ADDRESS, of the one that runs here, or of this "
    "machine alone.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def plots(what: str) -> Callable[[F], F]:
    """The option that draws `what`."""
    return click.option(
        "--plot",
        "plots",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        multiple=True,
        help=f"Draw {what}: .png or .html. May be given twice.",
    )


def llama_arguments(
    *,
    memory: str | None = None,
    cache: str | None = None,
    quality: str | None = None,
    ctx: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """The arguments of `edgemoe.Llama` for those options that were given."""
    arguments: dict[str, Any] = {
        "memory": memory,
        "cache": cache,
        "quality": quality,
        "n_ctx": ctx,
        "n_threads": threads,
        "n_threads_batch": threads,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def was_given(context: click.Context, name: str) -> bool:
    """Whether the user gave this option, be it with the value of its default."""
    return context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
