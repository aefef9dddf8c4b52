"""The command line: what it prints where, its exit codes, and what it imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgemoe.cli import VERBS, main
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError, ModelError
from models import write_model

PROGRAM = [sys.executable, "-c", "from edgemoe.cli import main; main()"]
PROMPT = "Tell me a story about a fish."


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], input=stdin, capture_output=True, text=True, timeout=120)


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    [path] = write_model(tmp_path_factory.mktemp("model") / "model.gguf", "qwen3moe", expert_type="Q8_0")
    return path


# Help and errors


def test_help_lists_the_verbs_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom edgemoe.cli import main\ntry: main(['--help'])\nfinally:\n"
        "    heavy = {'llama_cpp', 'numpy', 'rich', 'prompt_toolkit', 'huggingface_hub', 'httpx', 'edgemoe._native'}\n"
        "    heavy &= set(sys.modules)\n"
        "    print(heavy, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stderr.strip() == "set()"
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


def test_without_a_verb_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    assert "Get models:" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, "--help") == 0
    assert f"Usage: edgemoe {verb}" in capsys.readouterr().out


def test_descriptions_of_verbs_are_whole_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["route"]):
        with pytest.MonkeyPatch.context() as terminal:
            terminal.setenv("COLUMNS", "80")
            assert call(*arguments, "--help") == 0
        shown = capsys.readouterr().out
        assert "..." not in shown.replace("...]...", "").replace("[ARGS]...", "")
        assert max(map(len, shown.splitlines())) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.startswith("edgemoe 0.")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--nonsense"], "--nonsense"),
        (["nonsense"], "there is no command 'nonsense'"),
        (["cht"], "did you mean edgemoe chat?"),
        (["ls"], "did you mean edgemoe list?"),
        (["show", "."], ". is a directory: give the path of a .gguf file in it"),
        (["chat", "--nonsense"], "edgemoe chat --help"),
        (["chat", "missing.gguf", "-p", "x"], "missing.gguf"),
        (["chat", "-p", " "], "empty"),
        (["chat", "-p", "x", "--memory", "lots"], "'lots'"),
        (["chat", "-p", "x", "--top-p", "2"], "--top-p"),
        (["show"], "MODEL"),
        (["show", __file__], "gguf"),
        (["bench", str(default_model_path()), "--memory", "1GiB,much"], "'much'"),
        (["bench", str(default_model_path()), "--ctx", "10"], "192"),
        (["doctor", str(default_model_path()), "--dir", "."], "--dir"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("edgemoe: ")
    assert named.lower() in shown.err.lower()
    assert shown.err.count("\n") == 1


def test_of_an_option_that_is_given_twice_the_last_holds_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    model = str(default_model_path())
    assert call("show", model, "--ctx", "64", "--ctx=128", "--json", "--json") == 0
    shown = capsys.readouterr()
    assert shown.err == "edgemoe: --ctx was given 2 times: 128 holds\n"
    assert json.loads(shown.out)
    assert call("route", "decide", "--config", "a.toml", "--config", "b.toml", "Hello") == 2
    assert capsys.readouterr().err.startswith("edgemoe: --config was given 2 times: b.toml holds\nedgemoe: ")


def test_budget_that_is_too_small_names_one_that_works() -> None:
    done = run("chat", "-p", PROMPT, "--memory", "20MiB")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the smallest" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_EDGEMOE_COMPLETE" in done.stdout
    for typed, offered in [
        ("edgemoe ch", "plain,chat\n"),
        ("edgemoe chat --quality b", "plain,balanced\nplain,bits:3\n"),
        ("edgemoe plan --machine m1", "plain,m1-air\n"),
        ("edgemoe route de", "plain,decide\n"),
    ]:
        told = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        environment = os.environ | {"_EDGEMOE_COMPLETE": "bash_complete"} | told
        words = subprocess.run(PROGRAM, env=environment, capture_output=True, text=True, timeout=60).stdout
        assert words == offered


# One answer


def test_answer_goes_to_stdout_and_figures_to_stderr() -> None:
    arguments = ("--temperature", "0", "--max-tokens", "12")
    done = run("chat", "-p", PROMPT, *arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("Once upon a time")
    assert "\x1b" not in done.stdout + done.stderr
    assert "tok/s" not in done.stdout
    assert "12 tokens" in done.stderr
    assert "hits" in done.stderr
    assert run("chat", *arguments, stdin=PROMPT).stdout == done.stdout


def test_bytes_that_are_no_text_are_survived() -> None:
    done = subprocess.run(
        [*PROGRAM, "chat", "--max-tokens", "2"], input=b"fish \xff\xfe", capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*PROGRAM, "chat", "--max-tokens", "2", "-p", b"fish \xff"], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_answer_as_json() -> None:
    done = run("chat", "-p", PROMPT, "--json", "--seed", "7", "--max-tokens", "12")
    answer = json.loads(done.stdout)
    assert answer["text"]
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 12
    assert answer["timing"]["time_to_first_token"] > 0
    assert 0 <= answer["stats"]["hit_rate"] <= 1
    assert answer["stats"]["peak_bytes"] > 0
    again = run("chat", "-p", PROMPT, "--json", "--seed", "7", "--max-tokens", "12")
    assert json.loads(again.stdout)["text"] == answer["text"]


def test_json_needs_a_prompt() -> None:
    done = run("chat", "--json", stdin="  \n")
    assert done.returncode == 2
    assert "empty" in done.stderr


def test_too_long_a_prompt_is_refused() -> None:
    done = run("chat", "-p", "fish " * 600)
    assert done.returncode == 2
    assert "too long" in done.stderr


def test_trace_is_written(tmp_path: Path) -> None:
    trace = tmp_path / "routing.trace"
    assert run("chat", "-p", PROMPT, "--max-tokens", "4", "--trace", str(trace)).returncode == 0
    assert trace.stat().st_size > 0


def test_ctrl_c_is_code_130(model: Path) -> None:
    arguments = ["chat", str(model), "-p", PROMPT, "--ctx", "8192", "--temperature", "0"]
    with subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"Traceback" not in errors


def test_reader_that_leaves_is_no_error(model: Path) -> None:
    arguments = ["chat", str(model), "-p", PROMPT, "--ctx", "2048", "--temperature", "0"]
    with subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        child.stdout.close()
        child.stdout = None
        _, errors = child.communicate(timeout=60)
    assert b"Traceback" not in errors


# show and doctor


def test_show_default_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", str(default_model_path())) == 0
    shown = capsys.readouterr().out
    for expected in ("tinystories-moe-f16.gguf", "6 groups: T16 of F16", "512 tokens of context"):
        assert expected in shown
    assert "\x1b" not in shown


def test_show_json_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, *_ = write_model(tmp_path / "m.gguf", "qwen3moe", expert_type="Q4_K", mixed=True, split_into=2)
    assert call("show", str(path), "--json", "--ctx", "1024") == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["paths"]) == 2
    assert sum(shown["expert_types"].values()) == shown["expert_bytes"]
    assert sum(shown["dense_types"].values()) == shown["dense_bytes"]
    assert len(shown["expert_types"]) > 1
    budget = shown["smallest_budget"]
    assert budget["n_ctx"] == 1024
    assert budget["bytes"] == sum(budget["parts"].values()) + budget["minimum_cache"]


def test_smallest_budget_that_is_shown_works(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("show", str(model), "--json") == 0
    smallest = json.loads(capsys.readouterr().out)["smallest_budget"]
    budget = ("--memory", str(smallest["bytes"]), "--ctx", str(smallest["n_ctx"]))
    done = run("chat", str(model), "-p", PROMPT, "--json", "--max-tokens", "4", *budget)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stats"]["peak_bytes"] <= smallest["bytes"]


def test_doctor(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("doctor", "--json", str(model)) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"]
    names = {finding["name"] for finding in shown["findings"]}
    assert names >= {"backend", "processor", "memory", "disk", "default model"}
    assert call("doctor", "--dir", str(tmp_path)) == 0
    assert capsys.readouterr().out.endswith("\nok\n")
    assert list(tmp_path.iterdir()) == []


def test_doctor_reports_problems(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgemoe.experts import library

    def fail() -> None:
        raise EdgeMoEError("the backend is of another century")

    monkeypatch.setattr(library, "load", fail)
    assert call("doctor", str(model)) == 1
    shown = capsys.readouterr().out
    assert "!!  backend" in shown
    assert "another century" in shown
    assert shown.endswith("problems: 1\n")


def test_default_model_is_an_error_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import resources

    monkeypatch.setattr(resources, "files", lambda _: tmp_path / "edgemoe")
    with pytest.raises(ModelError, match="name a GGUF file"):
        default_model_path()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "b.gguf").touch()
    assert default_model_path() == tmp_path / "models" / "b.gguf"
