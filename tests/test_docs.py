"""README.md and docs/: commands and Python run, help texts are the program's, links lead somewhere.

    python tests/test_docs.py --write

writes what stands between markers in the documents (help texts, lists of tests and architectures) anew.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.dom.minidom
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import edgemoe
from docs_pages import CARDS, MARKED, PAGES, ROOT, Block, blocks, prose
from edgemoe.cli import VERBS, cli
from edgemoe.controls import Controls
from edgemoe.experts.stats import Stats
from models import ARCHITECTURES, write_model

# They download, compile, or write these documents: only their scripts are looked at.
NOT_RUN = re.compile(
    r"git clone|pip install|tools/bootstrap\.sh|tools/ci/|\.ci/run|--write|edgemoe pull \w+/|qwen3-30b"
)

# What makes an example small enough for a test.
SMALLER = (
    (r" --max-tokens \d+", ""),
    (r"\bedgemoe chat\b", "edgemoe chat --max-tokens 8"),
    (r"(synthesize_moe\.py synthetic\.gguf)", r"\1 --preset tiny"),
    (r"--repeat \d+", "--repeat 1"),
    (r"--prompt-tokens \d+", "--prompt-tokens 32"),
    (r"--tokens \d+", "--tokens 16"),
    (r"--warm \d+", "--warm 16"),
    (r"--memory (none,)?\d+%,[\d%,]+", r"--memory \g<1>600MiB"),
    (r"--runtime=\d+", "--runtime=1"),
    (r"--seconds \d+", "--seconds 1"),
    (r"\bedgemoe (pack|unpack)\b", r"edgemoe \1 --overwrite"),
    (r"\broute init\b( --force)?", "route init --force"),
)
SERVER = "127.0.0.1:8080"  # in examples
CONTROL_GROUPS = Path("/sys/fs/cgroup/memory")
ENGLISH = "The ferry left the harbour at noon, and the children waved until it was gone behind the rocks. "


# Examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the files that the examples name, and the programs `edgemoe` and `python`."""
    folder = tmp_path_factory.mktemp("examples")
    write_model(folder / "model.gguf", "qwen3moe", expert_type="Q8_0")
    write_model(folder / "other.gguf", "qwen3moe", expert_type="Q8_0", seed=1)
    (folder / "english.txt").write_text(ENGLISH * 60)
    (folder / "prompts.jsonl").write_text("".join(map(labelled_prompt, range(120))))
    (folder / "answers.jsonl").write_text("".join(map(known_answer, range(8))))
    (folder / "rated.jsonl").write_text("".join(map(rated_prompt, range(120))))
    (folder / "calibration.txt").write_text(ENGLISH * 60)
    for name in ("tools", "tests", "examples"):
        (folder / name).symlink_to(ROOT / name)
    program(folder / "bin" / "python", '"$@"')
    program(folder / "bin" / "edgemoe", '-m edgemoe "$@"')
    tiny = [sys.executable, "tools/synthesize_moe.py", "synthetic.gguf", "--preset", "tiny"]
    subprocess.run(tiny, cwd=folder, check=True, capture_output=True)
    run(["edgemoe", "pack", "model.gguf", "-o", "model.mwq.gguf"], folder)
    return folder


def labelled_prompt(i: int) -> str:
    label, words = (("sql", "how many orders"), ("retrieve", "what does our policy say"), ("none", "good day"))[i % 3]
    return json.dumps({"text": f"{words} number {i}", "label": label}) + "\n"


def known_answer(i: int) -> str:
    """Half of them are in any text, and half in none."""
    return json.dumps({"text": f"Tell me a story, please, number {i}.", "answer": "a" if i % 2 else "xylophone"}) + "\n"


def rated_prompt(i: int) -> str:
    return json.dumps({"text": f"how many orders came on day {i}", "weak": i % 2, "strong": 1}) + "\n"


def program(path: Path, arguments: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n')
    path.chmod(0o755)


def environment(folder: Path) -> dict[str, str]:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # Threads that wait asleep: the machine may be busy with other tests.
    homes = {name: str(folder) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    return os.environ | homes | {"PATH": path, "OMP_WAIT_POLICY": "passive"}


@contextmanager
def served(command: str, folder: Path) -> Iterator[str]:
    """Runs `edgemoe serve` on a free port; yields what stands for 127.0.0.1:8080 then. It has to end by Ctrl-C."""
    arguments = [*re.sub(r" --port \d+", "", command).split(), "--port", "0"]
    process = subprocess.Popen(
        arguments, cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"http://(\S+:\d+)", said)):
        line = process.stderr.readline()
        assert line, f"{command}\n{said}"
        said += line
    try:
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Of a running server."""
    with served("edgemoe serve --threads 1", folder) as address:
        yield address


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        input="Hello.\n",
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


def smaller(command: str) -> str:
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command)
    return command


def needs(command: str) -> str | None:
    """What this machine lacks for `command`."""
    limited = "prove_budget" in command or ("compare_stock" in command and "MiB" in command)
    if limited and not (os.geteuid() == 0 and os.access(CONTROL_GROUPS, os.W_OK)):
        return "root and control groups of version 1"
    first = command.split()[0]
    return None if first in ("edgemoe", "python") or shutil.which(first) else first


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "sh")], ids=str)
def test_commands_work(block: Block, folder: Path, request: pytest.FixtureRequest) -> None:
    lacking = set()
    for command in block.text.splitlines():
        if NOT_RUN.search(command):
            check_script(command)
        elif missing := needs(smaller(command)):
            lacking.add(missing)
        elif "edgemoe serve" in command:
            with served(command, folder):
                pass
        elif SERVER in command:
            run(["sh", "-euc", command.replace(SERVER, request.getfixturevalue("address"))], folder)
        else:
            run(["sh", "-euc", smaller(command)], folder)
    if lacking:
        pytest.skip(f"not everything was run: this machine lacks {', '.join(sorted(lacking))}")


def check_script(command: str) -> None:
    """What `command` runs exists and can be parsed by its shell; the options of edgemoe are its own."""
    if "edgemoe" in command.split()[:1]:
        verb, *arguments = command.split()[1:]
        context = cli.make_context("edgemoe", [verb])
        cli.get_command(context, verb).make_parser(context).parse_args(arguments)
        return
    if "pip install" in command:
        assert (ROOT / "pyproject.toml").is_file()
        return
    found = re.search(r"(?:^|[\s/])((?:tools|tests|\.ci)/[\w./-]+|\.ci/run)", command)
    assert found, f"{command}: which script is it?"
    script = ROOT / found[1]
    if script.suffix == ".py":
        compile(script.read_text(), str(script), "exec")
        return
    shell = script.read_text().splitlines()[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_works(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    """The blocks of a page run one after the other in one program."""
    padded = ""
    for block in blocks(page, "python"):
        padded += "\n" * (block.line - 1 - padded.count("\n")) + block.text
    if SERVER in padded:
        padded = padded.replace(SERVER, request.getfixturevalue("address"))
    script = folder / f"{page.stem}.py"
    script.write_text(padded)  # with the page's line numbers
    run([sys.executable, str(script)], folder)


# What is generated


def help_of(verb: str) -> str:
    arguments = [*verb.split(), "--help"]
    shown = CliRunner().invoke(cli, arguments, prog_name="edgemoe", terminal_width=100)
    assert shown.exit_code == 0, shown.output
    return f"```text\n{shown.output}```\n"


def list_of_architectures(_: str) -> str:
    names = sorted({architecture.name for architecture in ARCHITECTURES.values() if architecture.moe})
    return wrapped(f"{len(names)} architectures: " + ", ".join(f"`{name}`" for name in names) + ".")


def list_of_tests(_: str) -> str:
    rows = ["| file | what it says of itself |", "|---|---|"]
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()
        rows.append(f"| `tests/{path.name}` | {first[0] if first else ''} |")
    return "\n".join(rows) + "\n"


def wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 120, break_on_hyphens=False, break_long_words=False) + "\n"


GENERATED: dict[str, Callable[[str], str]] = {
    "help": help_of,
    "architectures": list_of_architectures,
    "tests": list_of_tests,
}


def regenerated(text: str) -> str:
    return MARKED.sub(lambda m: f"{m[1]}\n{GENERATED[m[2]](m[3] or '')}\n{m[5]}", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_are_current(page: Path) -> None:
    text = page.read_text()
    assert text == regenerated(text), f"{page.name} is out of date: run python tests/test_docs.py --write"


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")


def test_every_command_has_its_help() -> None:
    shown = {match[3] for match in MARKED.finditer((ROOT / "docs/cli.md").read_text()) if match[2] == "help"}
    assert shown == {"", *(words for words, _ in commands(cli))}


def test_every_option_says_what_it_does() -> None:
    silent = [
        f"{words} {option.opts[0]}"
        for words, command in commands(cli)
        for option in command.params
        if isinstance(option, click.Option) and not option.help and not option.hidden
    ]
    assert not silent


def test_the_readme_names_every_verb() -> None:
    readme = (ROOT / "README.md").read_text()
    assert not [verb for verb in VERBS if verb != "completion" and f"`{verb}`" not in readme]


def test_every_counter_is_explained() -> None:
    names = {field.name for field in dataclasses.fields(Stats)}
    names |= {name for name, value in vars(Stats).items() if isinstance(value, property)}
    page = (ROOT / "docs/api.md").read_text()
    assert not {name for name in names if f"`{name}`" not in page}


def test_the_public_api_is_described() -> None:
    page = (ROOT / "docs/api.md").read_text()
    listed = set(re.findall(r"`(\w+)[`(]", page))
    assert set(edgemoe.__all__) <= listed
    methods = {name for room in (Controls, edgemoe.Llama) for name in vars(room) if not name.startswith("_")}
    parents = {"create_completion", "create_chat_completion", "eval"}  # the parent's, and in every example
    assert methods - parents <= listed


# Links, pictures, paths


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page: Path) -> None:
    assert f"docs/{page.name}" in {link.partition("#")[0] for link in links(ROOT / "README.md")}


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: page.name)
def test_no_paths_of_one_machine(page: Path) -> None:
    assert not re.findall(r"(?<![\w.~])/(?:home|root|Users|work|tmp|mnt|media|opt)/\S*", page.read_text())


def test_the_picture_is_drawn_for_light_and_dark() -> None:
    picture = ROOT / "docs/overview.svg"
    xml.dom.minidom.parse(str(picture))
    assert "prefers-color-scheme: dark" in picture.read_text()


def test_the_licence_is_there() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "Copyright The edgemoe developers" in (ROOT / "LICENSE").read_text()


def main() -> None:
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/test_docs.py --write")
    for page in PAGES:
        text = page.read_text()
        page.write_text(regenerated(text))
        if page.read_text() != text:
            print(f"written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
