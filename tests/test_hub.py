"""Models on this machine: short names wherever a model is asked for, `list`, `rm` and `ps`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edgemoe import Llama
from edgemoe.cli import main
from hub_server import PROGRAM, REPOSITORY, Home

# Names


def test_names_work_wherever_a_model_is_asked_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.run("pull", REPOSITORY)
    answer = home.json("run", "tiny-moe", "-p", "fish", "--max-tokens", "2", "--ctx", "128")
    assert answer["usage"]["completion_tokens"] >= 2  # llama-cpp-python ends in no character's middle
    with closing(Llama("Tiny-MoE", n_ctx=128)) as llm, closing(Llama(REPOSITORY, n_ctx=128)) as same:
        assert llm.model_path == same.model_path == home.json("list")[0]["paths"][0]
    config = home.folder / "config.toml"
    config.write_text('[local.small]\npath = "tiny-moe"\n')
    from edgemoe.config import load_config

    assert str(load_config(config).local["small"].path) == llm.model_path
    [listed] = [model for model in home.json("list") if model["name"] == "tiny-moe"]
    assert time.time() - listed["last_used"] < 120


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tiny-mo", "did you mean tiny-moe or tinystories-moe?"),
        ("stories", "did you mean tinystories-moe?"),
        ("zzz", "edgemoe list shows"),
        ("other/Model-GGUF:Q8_0", "edgemoe pull other/Model-GGUF:Q8_0 gets it"),
        ("missing.gguf", "there is no model file missing.gguf"),
        ("tiny-moe.gguf", "there is no model file tiny-moe.gguf: did you mean tiny-moe"),
        ("", "there is no model file or name ''"),
    ],
)
def test_unknown_names_say_what_to_do(home: Home, remote_models: dict[str, Path], name: str, said: str) -> None:
    from edgemoe.errors import ModelError
    from edgemoe.hub import resolve
    from edgemoe.hub.known import Known, add

    add(Known("tiny-moe", (remote_models["Q4_K_M"],)))
    with pytest.raises(ModelError) as refused:
        resolve(name)
    assert said in str(refused.value)
    with pytest.raises(SystemExit) as left:
        main(["show", name])
    assert left.value.code == 2


def test_files_that_are_not_there_have_neighbours(home: Home, tmp_path: Path) -> None:
    from edgemoe.hub.names import unknown

    for name in ("story-Q4_K_M.gguf", "other.gguf", "story.txt"):
        (tmp_path / name).touch()
    assert unknown(f"{tmp_path}/story-Q4_K.gguf").endswith(f": did you mean {tmp_path}/story-Q4_K_M.gguf?")
    assert unknown(f"{tmp_path}/xyz.gguf") == f"there is no model file {tmp_path}/xyz.gguf"
    assert unknown(f"{tmp_path}/no-folder/xyz.gguf").startswith("there is no model file")


def test_a_model_whose_file_is_gone(home: Home) -> None:
    [path] = home.json("pull", REPOSITORY)["paths"]
    Path(path).unlink()
    assert f"edgemoe pull {REPOSITORY}:" in home.run("show", "tiny-moe", code=2).stderr
    assert "(gone)" in home.run("list").stdout
    home.run("rm", "tiny-moe", "--yes")


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 1, "models": [{}]}', '{"version": 99, "models": []}'])
def test_a_damaged_list_is_named_and_paths_still_work(home: Home, remote_models: dict[str, Path], content: str) -> None:
    file = home.folder / "XDG_DATA_HOME/edgemoe/models.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert str(file) in home.run("list", code=2).stderr
    assert home.json("show", str(remote_models["Q4_K_M"]))["experts"] == 16


def test_completion_offers_names(home: Home, remote_models: dict[str, Path]) -> None:
    from edgemoe.hub.known import Known, add

    add(Known("tiny-moe", (remote_models["Q4_K_M"],)))
    for words in ("edgemoe show tin", "edgemoe rm tiny-", "edgemoe run tiny-"):
        variables = {"_EDGEMOE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
        code = "from edgemoe.cli import main; main()"
        shown = subprocess.run(
            [sys.executable, "-c", code], env=home.environment | variables, capture_output=True, text=True, timeout=60
        )
        assert "plain,tiny-moe\n" in shown.stdout


def test_a_pack_of_what_was_pulled_gets_a_name(home: Home) -> None:
    home.run("pull", REPOSITORY)
    made = home.json("pack", "tiny-moe")["path"]
    assert made == str(home.folder / "XDG_DATA_HOME/edgemoe/models/tiny-moe.mwq.gguf")
    assert home.names() == ["tiny-moe", "tiny-moe-pack", "tinystories-moe"]
    assert home.json("show", "tiny-moe-pack")["levels"]


# Removing


def test_rm_frees_what_pull_fetched(home: Home) -> None:
    home.run("pull", REPOSITORY)
    assert "add --yes" in home.run("rm", "tiny-moe", code=2).stderr
    removed = home.run("rm", f"{REPOSITORY}:q4_k_m", "--yes")
    assert "frees 6.5" in removed.stderr
    assert not [path for path in home.cache.rglob("*") if path.is_file() and path.stat().st_size > 1000]
    assert home.names() == ["tinystories-moe"]


def test_rm_leaves_what_others_fetched(home: Home, remote_models: dict[str, Path]) -> None:
    code = f"import huggingface_hub as h; h.hf_hub_download('{REPOSITORY}', '{remote_models['Q4_K_M'].name}')"
    subprocess.run([sys.executable, "-c", code], env=home.environment, check=True, capture_output=True)
    shown = home.json("pull", REPOSITORY)
    assert (shown["missing_bytes"], shown["ours"]) == (0, False)
    assert "deletes no file" in home.run("rm", "tiny-moe", "--yes").stderr
    assert Path(shown["paths"][0]).exists()


def test_rm_asks_on_a_terminal(home: Home) -> None:
    import pexpect

    home.run("pull", REPOSITORY)
    for answer, left in (("n", ["tiny-moe", "tinystories-moe"]), ("y", ["tinystories-moe"])):
        child = pexpect.spawn(PROGRAM[0], [*PROGRAM[1:], "rm", "tiny-moe"], env=home.environment, timeout=60)
        child.expect("frees 6.5")
        child.expect(r"Remove\? \[y/N\]")
        child.sendline(answer)
        child.expect(pexpect.EOF)
        assert home.names() == left


def test_pull_asks_on_a_terminal(home: Home) -> None:
    import pexpect

    child = pexpect.spawn(PROGRAM[0], [*PROGRAM[1:], "pull", REPOSITORY], env=home.environment, timeout=60)
    child.expect("bound by")
    child.expect(r"Fetch it\? \[Y/n\]")
    child.sendline("n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert home.names() == ["tinystories-moe"]


@contextmanager
def holding(path: str) -> Iterator[int]:
    """Another program that has the file open and says so to nobody."""
    code = "import sys; file = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


def test_rm_never_takes_what_is_in_use(home: Home) -> None:
    [path] = home.json("pull", REPOSITORY)["paths"]
    with holding(path) as pid:
        assert f"in use by process {pid}" in home.run("rm", "tiny-moe", "--yes", code=2).stderr
    with closing(Llama("tiny-moe", n_ctx=128)):
        assert f"in use by process {os.getpid()}" in home.run("rm", "tiny-moe", "--yes", code=2).stderr
        [one] = home.json("ps")
        assert (one["pid"], one["facts"]["paths"]) == (os.getpid(), [path])
        assert Path(path).name in home.run("ps").stdout
    assert home.run("ps").stderr == "no model is open\n"
    assert Path(path).exists()


def test_a_file_of_the_users_loses_its_name_also_while_it_is_used(home: Home, remote_models: dict[str, Path]) -> None:
    path = str(remote_models["Q4_K_M"])
    home.run("pull", path, "--name", "mine")
    with holding(path):
        home.run("rm", "mine", "--yes")
    assert Path(path).exists()
    assert home.names() == ["tinystories-moe"]


def test_a_pack_that_did_not_end_is_listed_and_goes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgemoe.hub.known import Known
    from edgemoe.hub.unfinished import begun

    partial = home.folder / "XDG_DATA_HOME/edgemoe/models/mine.mwq.gguf.partial"
    partial.parent.mkdir(parents=True)

    def interrupted() -> None:
        with begun(Known("mine-pack", (partial,), ours=True)):
            partial.write_bytes(bytes(5000))
            partial.with_name(f"{partial.name}.journal").write_text("{}")
            raise KeyboardInterrupt

    monkeypatch.setenv("XDG_DATA_HOME", str(home.folder / "XDG_DATA_HOME"))
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "mine-pack     4.88 KiB  not known" in home.run("list").stdout
    home.run("rm", "mine-pack", "--yes")
    assert not list(partial.parent.iterdir())


def test_names_are_made_of_what_letters_are_without_their_marks(home: Home, remote_models: dict[str, Path]) -> None:
    path = home.folder / "Mödel é 1.gguf"
    path.write_bytes(remote_models["Q4_K_M"].read_bytes())
    assert home.json("pull", str(path))["name"] == "model-e-1"


def test_a_name_stays_with_its_file(home: Home, remote_models: dict[str, Path], tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.gguf", remote_models["Q4_K_M"]
    shutil.copy(other, mine)
    for _ in range(2):
        assert home.json("pull", str(mine), "--name", "story")["paths"] == [str(mine)]
    assert f"story is the name of {mine}" in home.run("pull", str(other), "--name", "story", code=2).stderr
    mine.unlink()
    assert home.json("pull", str(other), "--name", "story")["paths"] == [str(other)]


def test_rm_of_what_was_not_pulled(home: Home, remote_models: dict[str, Path]) -> None:
    assert "comes with edgemoe" in home.run("rm", "tinystories-moe", "--yes", code=2).stderr
    assert "delete it yourself" in home.run("rm", str(remote_models["Q4_K_M"]), "--yes", code=2).stderr
