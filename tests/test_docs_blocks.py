"""Blocks of the documents that no shell and no Python runs: configurations, rows, output, and what takes hours."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs_pages import CARDS, MARKED, PAGES, ROOT, Block, blocks, prose
from edgemoe.config import load_config
from edgemoe.default_model import default_model_path, router_path
from edgemoe.routing.rows import read_rows

RUN = {"sh", "python"}  # by test_docs.py
FORMULA, LICENCE = "a formula", "a licence's text"
ELSEWHERE = "test_examples.py and test_site.py do this"
PACKAGING = "PyInstaller is no part of the tests; what has to be collected is checked below"
RELEASE = "tools/ci/wheels.sh takes minutes and Python 3.12, and there is no release yet"
RAY = "Ray is a large extra: tests/test_serving_ray.py and test_serving_tasks.py do this where it is installed"
OUTPUT = "what a program prints: its words are compared, its numbers are another machine's"
CHECKED = "tests/test_deploy.py reads it"
MEASURED = "a command on large files, or that takes hours: its program has to know its options"

# Why each block is not run, by page and how it begins. A new block has to be added here, or be `sh` or `python`.

TEXTS = {
    ("README.md", "MIT License"): LICENCE,
    ("README.md", "pip install edgemoe"): RELEASE,
    ("benchmarking.md", "python tools/compare_limits.py"): MEASURED,
    ("benchmarks.md", "tools/compare_limits.py"): MEASURED,
    ("benchmarks.md", "tools/small_machine.py"): MEASURED,
    ("benchmarks.md", "edgemoe unpack"): MEASURED,
    ("benchmarks.md", "kernels_bench"): MEASURED,
    ("budgets.md", "edgemoe: a budget of"): OUTPUT,
    ("cli.md", "40 tokens"): OUTPUT,
    ("deploy.md", "[Unit]"): CHECKED,
    ("deploy.md", "FROM python"): CHECKED,
    ("embedding.md", "mypy --strict"): ELSEWHERE,
    ("embedding.md", "pip install '.[desktop]'"): ELSEWHERE,
    ("embedding.md", "pyinstaller"): PACKAGING,
    ("platforms.md", "pip install edgemoe"): RELEASE,
    ("platforms.md", "PYTHON=python3.12 tools/ci/wheels.sh"): RELEASE,
    ("scale.md", "pip install '.[ray]'"): RAY,
    ("scale.md", "edgemoe bench model.gguf --memory 40%"): RAY,
    ("testing.md", "python -m mkdocs build"): ELSEWHERE,
    ("testing.md", "python -m mypy"): ELSEWHERE,
    ("README.md", "python tools/make_default_model.py"): MEASURED,
    ("format.md", "w^2 exp"): FORMULA,
    ("quality.md", "sum over its routed"): FORMULA,
    ("quality.md", "bits = 8 bytes"): FORMULA,
    ("plan.md", "dense    ="): FORMULA,
    ("router.md", "python tools/router_rows.py"): MEASURED,
    ("router.md", "quality(x, a) ="): FORMULA,
    ("routes.md", "quality x"): FORMULA,
    ("routes.md", "small (threshold)"): OUTPUT,
}


def written(page: Path) -> list[Block]:
    """Its blocks that are not generated."""
    generated = [match.span() for match in MARKED.finditer(page.read_text())]
    lines = [(page.read_text()[:a].count("\n"), page.read_text()[:b].count("\n")) for a, b in generated]
    return [block for block in blocks(page) if not any(first < block.line <= last for first, last in lines)]


def others(*languages: str) -> list[Block]:
    return [block for page in [*PAGES, *CARDS] for block in written(page) if block.language in languages]


def reason(block: Block) -> str | None:
    begins = [text for (page, text) in TEXTS if page == block.page.name and block.text.startswith(text)]
    return TEXTS[block.page.name, begins[0]] if begins else None


def because(why: str) -> list[Block]:
    return [block for block in others("text") if reason(block) == why]


def test_every_block_is_run_or_listed() -> None:
    every = {block.language for page in [*PAGES, *CARDS] for block in written(page)}
    assert every <= {*RUN, "toml", "json", "text"}
    assert not [str(block) for block in others("text") if reason(block) is None]
    assert not [str(block) for card in CARDS for block in written(card) if block.language in RUN]  # nobody runs cards


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda page: page.name)
def test_blocks_have_fences(page: Path) -> None:
    """What is only indented would be a block, too, and nobody would look at it."""
    assert not re.findall(r"\n\n    .*", prose(page))


def test_every_listed_block_exists() -> None:
    found = {(block.page.name, text) for block in others("text") for _, text in TEXTS if block.text.startswith(text)}
    assert set(TEXTS) <= found


@pytest.mark.parametrize("block", others("toml"), ids=str)
def test_configurations_load(block: Block, tmp_path: Path, router_file: Path) -> None:
    """With the models of the page's first block, where one has none of its own."""
    models = next(other.text for other in others("toml") if other.page == block.page)
    text = (
        block.text if "[local." in block.text else block.text + models[models.index("[local.") : models.index("[[rule")]
    )
    (tmp_path / "config.toml").write_text(text)
    for name in set(re.findall(r'"([\w.]+\.(?:gguf|onnx))"', text)):
        (tmp_path / name).write_bytes(router_file.read_bytes())
    config = load_config(tmp_path / "config.toml")
    assert config.local
    assert len(config.rules) == block.text.count("[[rule]]")


@pytest.mark.parametrize("block", others("json"), ids=str)
def test_rows_can_be_read(block: Block, tmp_path: Path) -> None:
    """The only JSON so far is rows to train a router with."""
    (tmp_path / "rows.jsonl").write_text(block.text)
    assert len(read_rows([tmp_path / "rows.jsonl"], "tool")) == len(block.text.splitlines())


@pytest.mark.parametrize("block", because(MEASURED), ids=str)
def test_measured_commands_know_their_options(block: Block) -> None:
    for command in re.sub(r"\\\n\s*", "", block.text).splitlines():
        words = shlex.split(command.removeprefix("python "))
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known_options(words), command


def known_options(words: list[str]) -> set[str]:
    if words[0] == "kernels_bench":
        text = (ROOT / "native/tests/kernels_bench.cc").read_text()
    else:
        first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        program = ["-m", "edgemoe"] if words[0] == "edgemoe" else [str(ROOT / words[0])]
        command = [sys.executable, *program, *words[1:first], "--help"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        text = done.stdout
    return set(re.findall(r"--[a-z][a-z-]*", text))


def shape(text: str) -> str:
    """Without numbers, the sizes' units, and how columns are aligned."""
    return re.sub(r" +", " ", re.sub(r"[\d.,]+( ?([KMGT]i)?B\b)?", "N", text)).strip()


def edgemoe(*arguments: str, status: int = 0) -> str:
    """What it writes to stderr."""
    command = [sys.executable, "-m", "edgemoe", *arguments]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stderr
    return done.stderr


def shown(page: str) -> list[str]:
    [block] = [block for block in because(OUTPUT) if block.page.name == page]
    return [shape(line) for line in block.text.splitlines()]


def test_a_refused_budget_reads_as_shown() -> None:
    printed = edgemoe("chat", "-p", "Hello.", "--memory", "60MiB", status=2)
    assert [shape(line) for line in printed.splitlines()] == shown("budgets.md")


def test_the_line_below_an_answer_reads_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    ask = ["chat", "-p", "Tell me a story.", "--max-tokens", "8"]
    assert shape(edgemoe(*ask).splitlines()[-1]) == shown("cli.md")[0]
    local, cloud = shown("routes.md")
    (tmp_path / "config.toml").write_text("[local.small]\n")
    routed = edgemoe(*ask, "--route", "--config", str(tmp_path / "config.toml"))
    assert shape(routed.splitlines()[-1]) == local
    assert cloud.startswith("big (maths is for the big one)")  # test_chat_routed.py has the cloud's


def test_what_an_installer_has_to_bring_is_where_it_is_said_to_be() -> None:
    import llama_cpp

    import edgemoe as package

    folder = Path(package.__file__).parent
    assert list(folder.glob("_native*.so"))
    assert list((Path(llama_cpp.__file__).parent / "lib").glob("*.so"))
    assert default_model_path().parent.name == router_path().parent.name == "models"
    [block] = [block for block in others("text") if reason(block) == PACKAGING]
    assert "--collect-all edgemoe --collect-all llama_cpp --copy-metadata llama-cpp-python" in block.text


# Names in the text

OTHERS = {
    "--collect-all",
    "--copy-metadata",
    "--exclude-module",
    "--onedir",
    "--onefile",
    "--strict",
}  # other programs'


def code(page: Path) -> list[str]:
    """What stands between backticks in the text."""
    return re.findall(r"`([^`\n]+)`", prose(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    rooms = re.compile(r"(?:tools|tests|examples|native|models|docs|\.github)/[\w./-]+|edgemoe/[\w/]+\.py")
    assert not [name for name in code(page) if rooms.fullmatch(name) and not (ROOT / name).exists()]


def test_options_that_are_named_exist() -> None:
    scripts = [*(ROOT / "edgemoe/cli").glob("*.py"), *(ROOT / "tools").rglob("*.py"), *ROOT.glob("examples/**/*.py")]
    known = set(re.findall(r'"(?:-\w", "|[^"\n]*/)?(--[a-z][a-z0-9-]+)', "\n".join(map(Path.read_text, scripts))))
    for page in PAGES:
        named = {found[1] for text in code(page) if (found := re.match(r"(--[a-z][a-z0-9-]+)", text))}
        assert named <= known | OTHERS, page.name
