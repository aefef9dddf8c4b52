"""Perplexity and divergence: against figures computed here from stock llama.cpp's logits."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from edgemoe.bench.quality import measure_quality, tokenize
from edgemoe.cli import main
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError
from edgemoe.llama import Llama
from models import write_model

N_CTX = 100
SENTENCE = (
    "Hello world, this is what the experts are for. Each token of a text has a few of them, and others have others. "
)
TEXT = SENTENCE * 4
STORY = (
    "<|endoftext|>\nOnce upon a time, there was a little girl named Lily. She loved to play outside in the sun. One "
    "day, she saw a big red ball in the park. She wanted to play with it, but it was stuck in a tree. Lily asked "
    "her dad to help her. Her dad got the ball and gave it to Lily. She was very happy.\n<|endoftext|>\n"
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    [exact] = write_model(folder / "exact.gguf", "qwen3moe", expert_type="F16")
    [coarse] = write_model(folder / "coarse.gguf", "qwen3moe", expert_type="Q4_0")
    return exact, coarse


def stock_log_probabilities(path: Path, patch: pytest.MonkeyPatch) -> tuple[list[int], list[np.ndarray]]:
    """The text's tokens, and for each window the log-probabilities after each token."""
    params = llama_cpp.llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False  # repacked weights give other roundings
    patch.setattr(llama_cpp.llama_cpp, "llama_model_default_params", lambda: params)
    llm = llama_cpp.Llama(str(path), n_ctx=128, n_threads=1, verbose=False, logits_all=True)
    tokens = llm.tokenize(TEXT.encode(), add_bos=False, special=True)
    windows = []
    for start in range(0, len(tokens) - N_CTX + 1, N_CTX):
        llm.reset()
        llm.eval(tokens[start : start + N_CTX])
        logits = np.array(llm.scores[:N_CTX], dtype=np.double)
        windows.append(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    return tokens, windows


def second_half(tokens: list[int], window: int) -> list[tuple[int, int]]:
    """(position, token that follows) of the predictions that count."""
    return [(i, tokens[window * N_CTX + i + 1]) for i in range(N_CTX // 2, N_CTX - 1)]


def open_llama(path: Path) -> closing[Llama]:
    return closing(Llama(path, memory=None, n_ctx=N_CTX, n_threads=1, logits_all=True))


def test_figures_are_those_of_their_definitions(paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    exact, coarse = paths
    tokens, p = stock_log_probabilities(exact, monkeypatch)
    _, q = stock_log_probabilities(coarse, monkeypatch)
    places = [(w, i, target) for w in range(len(p)) for i, target in second_half(tokens, w)]
    with open_llama(coarse) as llm, open_llama(exact) as reference:
        assert tokenize(llm, TEXT) == tokens
        quality = measure_quality(llm, tokens, n_ctx=N_CTX, reference=reference)
    assert (quality.windows, quality.tokens, quality.n_ctx) == (len(p), len(places), N_CTX)
    assert len(p) > 1
    losses = np.array([-q[w][i, target] for w, i, target in places])
    divergences = np.array([np.exp(p[w][i]) @ (p[w][i] - q[w][i]) for w, i, _ in places])
    equal = np.array([p[w][i].argmax() == q[w][i].argmax() for w, i, _ in places])
    assert quality.perplexity == pytest.approx(math.exp(losses.mean()), rel=1e-3)
    error = losses.std(ddof=1) / math.sqrt(len(losses)) * quality.perplexity
    assert quality.perplexity_error == pytest.approx(error, rel=1e-3)
    assert quality.reference_perplexity == pytest.approx(
        math.exp(np.mean([-p[w][i, target] for w, i, target in places])), rel=1e-3
    )
    assert quality.kl_divergence == pytest.approx(divergences.mean(), rel=0.02)
    assert quality.kl_divergence_max == pytest.approx(divergences.max(), rel=0.02)
    assert quality.top_agreement == pytest.approx(equal.mean(), abs=0.02)
    assert quality.kl_divergence > 1e-4
    changes = np.array([p[w][i, target] - q[w][i, target] for w, i, target in places])
    assert quality.perplexity_change == pytest.approx(math.expm1(changes.mean()), abs=2e-3)
    assert quality.perplexity_change_error == pytest.approx(changes.std(ddof=1) / math.sqrt(len(changes)), rel=0.05)


def test_a_model_does_not_diverge_from_itself(paths: tuple[Path, Path]) -> None:
    with open_llama(paths[0]) as llm, open_llama(paths[0]) as reference:
        quality = measure_quality(llm, tokenize(llm, TEXT, 250), n_ctx=N_CTX, reference=reference)
    assert quality.kl_divergence < 1e-9
    assert quality.top_agreement == 1
    assert quality.perplexity == quality.reference_perplexity
    assert quality.perplexity_change == 0


def test_steps_of_one_token_predict_the_same(paths: tuple[Path, Path]) -> None:
    with open_llama(paths[0]) as llm, open_llama(paths[0]) as reference:
        tokens = tokenize(llm, TEXT, 2 * N_CTX)
        quality = measure_quality(llm, tokens, n_ctx=N_CTX, reference=reference, step=1)
        assert llm.stats().prompt_tokens == 0
        assert llm.stats().decode_tokens == 2 * N_CTX
    assert quality.kl_divergence < 1e-3
    assert abs(quality.perplexity_change) < 0.01


def test_told_of_progress(paths: tuple[Path, Path]) -> None:
    told: list[tuple[int, int]] = []
    with open_llama(paths[0]) as llm:
        measure_quality(llm, tokenize(llm, TEXT, 250), n_ctx=N_CTX, progress=lambda *at: told.append(at))
    assert told == [(1, 2), (2, 2)]


def test_figures_do_not_depend_on_the_budget(paths: tuple[Path, Path]) -> None:
    figures = []
    for settings in ({"memory": None}, {"cache": "30%", "n_ubatch": 32}):
        with closing(Llama(paths[1], n_ctx=N_CTX, n_threads=1, logits_all=True, **settings)) as llm:
            figures.append(measure_quality(llm, tokenize(llm, TEXT), n_ctx=N_CTX))
    assert figures[0] == figures[1]


def test_logits_are_not_kept(paths: tuple[Path, Path]) -> None:
    with open_llama(paths[0]) as llm:
        measure_quality(llm, tokenize(llm, TEXT), n_ctx=N_CTX)
        assert llm.scores.nbytes == 0


def test_short_texts(paths: tuple[Path, Path]) -> None:
    with open_llama(paths[0]) as llm:
        assert measure_quality(llm, tokenize(llm, TEXT, 2), n_ctx=N_CTX).tokens == 1
        quality = measure_quality(llm, tokenize(llm, TEXT, 30), n_ctx=N_CTX)
        assert (quality.windows, quality.n_ctx, quality.tokens) == (1, 30, 14)
        with pytest.raises(EdgeMoEError, match="two"):
            measure_quality(llm, [5], n_ctx=N_CTX)


def test_vocabularies_must_be_the_same(paths: tuple[Path, Path]) -> None:
    refused = pytest.raises(EdgeMoEError, match="vocabularies")
    with open_llama(paths[0]) as llm, open_llama(default_model_path()) as other, refused:
        measure_quality(llm, [1, 2, 3], n_ctx=N_CTX, reference=other)


def evaluate(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["eval", *arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_default_model_knows_stories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "story.txt"
    text.write_text(STORY)
    assert evaluate(str(default_model_path()), "--text", str(text), "--ctx", "64", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["windows"] == 1
    assert 1 < shown["perplexity"] < 12
    assert shown["kl_divergence"] is None


def test_command_compares(paths: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    exact, coarse = map(str, paths)
    assert evaluate(coarse, "--text", str(text), "--against", exact, "--ctx", "64", "--memory", "1GiB") == 0
    shown = capsys.readouterr().out
    assert "perplexity" in shown
    assert "KL divergence" in shown
    assert "% equal" in shown


def test_command_refuses_what_it_cannot_compare(
    paths: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    assert evaluate(str(paths[0]), "--text", str(text), "--against", str(default_model_path())) == 2
    assert "cannot be compared" in capsys.readouterr().err
    text.write_bytes(b"\xff\xfe\x00")
    assert evaluate(str(paths[0]), "--text", str(text)) == 2
    assert "UTF-8" in capsys.readouterr().err
