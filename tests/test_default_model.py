"""The default model is trained from stories: what is drawn from them, and a tiny run that llama.cpp computes alike."""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgemoe import Llama

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "tools"
HEROES = ("cat", "dog", "fox", "frog", "bear", "duck", "mouse", "lion")
STORY = (
    "Once upon a time, there was a {0} named {1}. The {0} loved to swim in the cold river. One day, {1} saw a "
    "shiny stone under the water. He wanted to touch it, but the river was deep. A kind bird came to watch. "
    "The bird gave the {0} a long stick. {1} pulled the stone out and laughed. The bird danced on a branch. "
    "The {0} went home before dark."
)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """default_model.stories, with the tools on the path."""
    sys.path.insert(0, str(TOOLS))
    try:
        for name in ("held_out", "dialogues", "evaluate"):
            importlib.import_module(f"default_model.{name}")
        return importlib.import_module("default_model.stories")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two sources, of which one may not be trained on."""
    path = tmp_path_factory.mktemp("texts") / "train.jsonl"
    told = [STORY.format(hero, name) for hero in HEROES for name in ("Tim", "Sam", "Max", "Ben")]
    records = [{"src": "tinystories", "text": text} for text in told] + [{"src": "fables", "text": "A greedy miser."}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_only_sources_without_conditions_are_trained_on(tool: ModuleType, texts: Path) -> None:
    found = tool.load_training([texts, texts])
    assert len(found) == 4 * len(HEROES)
    assert not any("miser" in text for text in found)
    lonely = texts.with_name("fables.jsonl")
    lonely.write_text(json.dumps({"src": "fables", "text": "A greedy miser."}) + "\n")
    with pytest.raises(ValueError, match="no story of the sources tinystories"):
        tool.load_training([lonely])


def test_a_story_says_what_it_is_about(tool: ModuleType) -> None:
    (story,) = tool.read_stories([STORY.format("fox", "Tim")])
    assert (story.topic, story.names[0]) == ("fox", "Tim")
    moved = tool.swap(story.text, tool.exchange_topic("fox", "owl"))
    assert moved.startswith("Once upon a time, there was an owl named Tim. The owl")
    assert "fox" not in moved


@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("cat", "Two cats slept.", True),
        ("cat", "The cattle slept.", False),
        ("swim", "He was swimming.", True),
        ("dance", "She danced.", True),
        ("pony", "Three ponies ran.", True),
        ("mouse", "The mice ran.", True),
    ],
)
def test_forms_of_words(tool: ModuleType, word: str, text: str, found: bool) -> None:
    assert bool(tool.form_of(word).search(text)) == found


def test_dialogues_ask_for_what_they_answer(tool: ModuleType, texts: Path) -> None:
    dialogues, evaluate = (sys.modules[f"default_model.{name}"] for name in ("dialogues", "evaluate"))
    stories = tool.read_stories(tool.load_training([texts, texts]))
    writer = dialogues.Writer(stories, random.Random(3))
    drawn = [writer.draw(story) for story in stories * 20]
    for dialogue in drawn:
        for turn in dialogue.turns:
            assert "{" not in turn.request + turn.answer
            assert all(evaluate.mentions(turn.answer, word) for word in turn.wanted), turn
    assert any(dialogue.system for dialogue in drawn)
    assert max(len(dialogue.turns) for dialogue in drawn) >= 4
    again = dialogues.Writer(stories, random.Random(3))
    assert [again.draw(story) for story in stories * 20] == drawn


def test_requests_are_many_and_never_those_that_measure(tool: ModuleType) -> None:
    phrases, evaluate = (sys.modules[f"default_model.{name}"] for name in ("phrases", "evaluate"))
    rng = random.Random(1)
    asked = {phrases.draw(name, rng) for name in ("ask", "words") for _ in range(20_000)}
    assert len(asked) > 2000
    assert not any("(" in one or "|" in one or one.count("{}") != 1 for one in asked)
    measured = {
        *evaluate.ASKED,
        *(one.replace("{}, {}, {}", "{}").replace("{}, {} and {}", "{}") for one in evaluate.GIVEN),
    }
    assert not measured & asked


def test_judging(tool: ModuleType) -> None:
    evaluate = sys.modules["default_model.evaluate"]
    told = STORY.format("fox", "Tim")
    assert evaluate.keeps(told, "fox")
    assert not evaluate.keeps(told, "river")
    assert not evaluate.is_another(told, told)
    assert evaluate.is_shorter(told, "A fox found a stone.", "fox")
    assert not evaluate.is_shorter(told, told, "fox")
    assert tool.repeats_itself("The fox ran away fast. It was dark. The fox ran away fast.")


def test_a_tiny_run_stops_goes_on_and_exports(texts: Path, tmp_path: Path) -> None:
    """The same model comes of a run in one piece and of one that was stopped; llama.cpp computes what torch does."""
    # Not imported here, where other tests measure memory.
    if not all(map(importlib.util.find_spec, ("torch", "tokenizers"))):
        pytest.skip('PyTorch or tokenizers is not installed: pip install "edgemoe[train]"')
    size = ["--layers", "2", "--context", "256", "--vocabulary", "400", "--steps", "3", "--no-compile"]

    def train(name: str, *more: str) -> str:
        command = [sys.executable, str(TOOLS / "train_default_model.py"), str(texts), "-o", str(tmp_path / name)]
        done = subprocess.run([*command, *size, *more], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "tokens of 32 texts are equal" in train("whole.gguf")
    assert "stopped; the same command goes on" in train("pieces.gguf", "--minutes", "0.0001")
    assert not (tmp_path / "pieces.gguf").exists()
    said = train("pieces.gguf")
    assert "first choices are equal" in said
    assert (tmp_path / "pieces.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    llama = Llama(str(tmp_path / "whole.gguf"), n_ctx=256, verbose=False)
    assert llama.create_chat_completion([{"role": "user", "content": "Hi"}], max_tokens=4)["choices"]
