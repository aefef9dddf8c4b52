"""Packs as models: every plane gives what the source gives, and a level what its weights give."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from edgemoe import Llama
from edgemoe.calibrate import Calibration, default_text
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError
from edgemoe.packs.layout import plane_bytes
from edgemoe.packs.plan import Settings
from edgemoe.packs.reader import Pack
from edgemoe.packs.unpack import unpack
from edgemoe.packs.writer import pack
from models import write_model
from stock import decode_logits, greedy, prompt_logits, stock_llama
from trained import f16_model_path

CONTEXT = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512, "n_threads": 2, "n_threads_batch": 2}
TOKENS = [(7 * i * i + 3 * i) % 200 + 5 for i in range(48)]


def opened(path: Path, **options: object) -> contextlib.closing[Llama]:
    return contextlib.closing(Llama(path, **({"memory": None} | CONTEXT | options)))


def divergence(reference: np.ndarray, logits: np.ndarray) -> float:
    """Mean KL divergence of rows of logits."""
    p = reference - np.logaddexp.reduce(reference, axis=-1, keepdims=True)
    q = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


@pytest.mark.parametrize(
    ("arch", "expert_type", "options"),
    [
        ("qwen3moe", "Q4_K", {}),
        ("qwen3moe", "Q5_K", {}),
        ("qwen3moe", "Q6_K", {"n_expert": 32}),
        ("olmoe", "Q5_K", {}),
        ("nemotron_h_moe", "Q4_K", {}),
        ("llama4", "Q6_K", {}),
        ("qwen3moe", "Q4_K", {"n_embd": 2048, "n_ff_exp": 768, "n_expert": 8, "n_layer": 2}),
    ],
)
def test_all_planes_of_slices_are_the_source(tmp_path: Path, arch: str, expert_type: str, options: dict) -> None:
    source = write_model(tmp_path / "source.gguf", arch, expert_type=expert_type, **options)[0]
    pack(source, tmp_path / "x.mwq.gguf", Settings())
    with contextlib.closing(stock_llama(source, **CONTEXT)) as stock, opened(tmp_path / "x.mwq.gguf") as llm:
        assert np.array_equal(decode_logits(stock, TOKENS), decode_logits(llm, TOKENS))
        assert np.array_equal(prompt_logits(stock, TOKENS * 2), prompt_logits(llm, TOKENS * 2))
        assert greedy(stock, TOKENS, 16) == greedy(llm, TOKENS, 16)


@pytest.fixture(scope="module")
def default_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "default.mwq.gguf"
    pack(f16_model_path(), path, Settings(levels=(2, 3, 4, 6)))
    return path


@pytest.fixture(scope="module")
def text_tokens() -> list[int]:
    with opened(f16_model_path()) as llm:
        return llm.tokenize(b"Once upon a time there was a little dog. He liked to play in the park." * 2)


@pytest.mark.parametrize("level", [2, 3, 4, 6])
def test_a_level_is_its_unpacked_weights(
    default_pack: Path, text_tokens: list[int], tmp_path: Path, level: int
) -> None:
    plain = tmp_path / "plain.gguf"
    unpack(default_pack, level, plain)
    with (
        opened(default_pack, quality=f"fixed:{level}") as llm,
        contextlib.closing(stock_llama(plain, **CONTEXT)) as stock,
    ):
        before = llm.stats().bytes_read
        one_by_one = decode_logits(llm, text_tokens)
        # 8-bit activations, like those of ggml's own quantized types, are all that differs.
        assert divergence(decode_logits(stock, text_tokens), one_by_one) < 2e-3
        at_once = prompt_logits(llm, text_tokens)
        assert divergence(one_by_one[-1:], at_once[None]) < 2e-2  # as far apart as llama.cpp's own dense kernels
        read = llm.stats().bytes_read - before
        assert 0 < read <= llm._residence._engine.full_cache()  # no plane above the level, and none twice


def test_experts_of_one_layer_have_levels_of_their_own(
    default_pack: Path, text_tokens: list[int], tmp_path: Path
) -> None:
    plain = {level: unpack(default_pack, level, tmp_path / f"{level}.gguf").path for level in (2, 3, 4)}
    experts = {level: {t.name: t.data for t in GGUFReader(path).tensors} for level, path in plain.items()}
    random = np.random.default_rng(1)
    with opened(default_pack, quality="fixed:4") as llm:
        chosen = {}
        mixed = GGUFReader(plain[2], "r+")
        for group in llm.expert_groups:
            layer = group.removesuffix("exps")
            stacks = [t for t in mixed.tensors if t.name.startswith(layer) and "_exps." in t.name]
            chosen[group] = random.choice([2, 3, 4], len(stacks[0].data)).tolist()
            for stack in stacks:
                for expert, level in enumerate(chosen[group]):
                    stack.data[expert] = experts[level][stack.name][expert]
        mixed.data.flush()
        whole = decode_logits(llm, text_tokens)
        for group, levels in chosen.items():
            llm.set_expert_levels(group, levels)
        logits = decode_logits(llm, text_tokens)
        at_once = prompt_logits(llm, text_tokens)
        with contextlib.closing(stock_llama(plain[2], **CONTEXT)) as stock:
            reference = decode_logits(stock, text_tokens)
        assert divergence(reference, logits) < 2e-3
        assert divergence(reference, whole) > 4 * divergence(reference, logits)
        assert divergence(logits[-1:], at_once[None]) < 2e-2
        for group in chosen:
            llm.set_expert_levels(group, [])
        assert np.array_equal(decode_logits(llm, text_tokens), whole)


def test_levels_of_experts_that_there_are_not_are_refused(default_pack: Path) -> None:
    with opened(default_pack, quality="fixed:3") as llm:
        with pytest.raises(EdgeMoEError, match="'blk.99.exps' is no group"):
            llm.set_expert_levels("blk.99.exps", [2])
        with pytest.raises(EdgeMoEError, match="level 4 is not in use.* 2, 3"):
            llm.set_expert_levels("blk.0.exps", [4])
        with pytest.raises(EdgeMoEError, match=r"blk.0.exps has \d+ experts, and levels were given for 1"):
            llm.set_expert_levels("blk.0.exps", [2])


def move_biases(path: Path, plain: Path) -> None:
    """Adds the row biases of level 2 of the pack `path` to the biases that the unpacked model has of its own."""
    own = {tensor.name: tensor.data for tensor in GGUFReader(plain, "r+").tensors}
    with Pack(path) as opened:
        for group in opened.groups:
            for tensor, start in zip(group.tensors, group.plane_offsets(2), strict=False):
                end = start + plane_bytes(tensor, 2, biased=True)
                biases = slice(end - -(-2 * tensor.rows // 64) * 64, end)  # the last part of a plane
                for expert in range(group.experts):
                    found = opened.extent(group, 2, expert)[biases].view("<f2")[: tensor.rows]
                    own[tensor.name.replace(".weight", ".bias")][expert] += found


def test_row_biases_are_part_of_a_level_and_not_of_its_weights(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source.gguf", "gpt-oss", expert_type="F16", n_expert=4, n_layer=2)[0]
    seen = Calibration(source, default_text(), hessians=False, tokens=1024)
    path, plain = tmp_path / "x.mwq.gguf", tmp_path / "plain.gguf"
    pack(source, path, Settings(calibration=seen, gptq=False))
    [note] = unpack(path, 2, plain, type_="F32").notes
    assert "row biases" in note
    assert unpack(path, 3, tmp_path / "level3.gguf").notes == []
    with opened(path, quality="fixed:2") as llm:
        logits = decode_logits(llm, TOKENS)
    with contextlib.closing(stock_llama(plain, **CONTEXT)) as stock:
        without = divergence(decode_logits(stock, TOKENS), logits)
    move_biases(path, plain)
    with contextlib.closing(stock_llama(plain, **CONTEXT)) as stock:
        with_biases = divergence(decode_logits(stock, TOKENS), logits)
    assert with_biases < 2e-3
    assert without > 10 * with_biases


def test_levels_cost_and_bring_more(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source.gguf", "qwen3moe", expert_type="F16", n_ff_exp=256, n_embd=256)[0]
    pack(source, tmp_path / "x.mwq.gguf", Settings(levels=(2, 3, 4, 6)))
    with contextlib.closing(stock_llama(source, **CONTEXT)) as stock:
        reference = decode_logits(stock, TOKENS)
    lost, cost = [], []
    for level in (2, 3, 4, 6):
        with opened(tmp_path / "x.mwq.gguf", quality=f"fixed:{level}") as llm:
            lost.append(divergence(reference, decode_logits(llm, TOKENS)))
            cost.append(llm._residence._engine.full_cache())
    assert all(worse > 2 * better for worse, better in zip(lost, lost[1:], strict=False)), lost
    assert cost == sorted(cost)
    assert cost[3] > 2 * cost[0]


def test_the_default_model_is_what_it_was_made_of(text_tokens: list[int]) -> None:
    with contextlib.closing(stock_llama(f16_model_path(), **CONTEXT)) as stock:
        reference = decode_logits(stock, text_tokens)
    lost = []
    for level in (2, 3, 4):
        with opened(default_model_path(), quality=f"fixed:{level}") as llm:
            lost.append(divergence(reference, decode_logits(llm, text_tokens)))
    assert lost == sorted(lost, reverse=True)
    assert lost[0] < 0.2
    assert lost[2] < 0.02


def test_a_small_cache_changes_nothing(default_pack: Path, text_tokens: list[int]) -> None:
    with opened(default_pack) as roomy, opened(default_pack, cache=0.3) as tight:
        assert np.array_equal(decode_logits(roomy, text_tokens), decode_logits(tight, text_tokens))
        assert np.array_equal(prompt_logits(roomy, text_tokens), prompt_logits(tight, text_tokens))
        assert tight.stats().bytes_read > roomy.stats().bytes_read
        stats = tight.stats()
        assert stats.hits + stats.misses > 0


@pytest.mark.parametrize(
    ("arch", "columns"), [("qwen3moe", 1408), ("gpt-oss", 2880), ("granitemoe", 96), ("deepseek2", 288)]
)
def test_odd_widths(tmp_path: Path, arch: str, columns: int) -> None:
    source = write_model(tmp_path / "s.gguf", arch, expert_type="F16", n_ff_exp=columns, n_expert=4, n_layer=2)[0]
    pack(source, tmp_path / "x.mwq.gguf", Settings(levels=(2, 3, 4, 6)))
    with contextlib.closing(stock_llama(source, **CONTEXT)) as stock, opened(tmp_path / "x.mwq.gguf") as llm:
        assert divergence(decode_logits(stock, TOKENS), decode_logits(llm, TOKENS)) < 0.02


def test_a_quality_that_the_file_does_not_have_is_refused(default_pack: Path) -> None:
    with pytest.raises(EdgeMoEError, match="fixed:5.*2, 3, 4, 6"):
        Llama(default_pack, quality="fixed:5")
    with pytest.raises(EdgeMoEError, match="'best' is unknown"):
        Llama(default_pack, quality="best")
    with pytest.raises(EdgeMoEError, match="needs a pack"):
        Llama(f16_model_path(), quality="fixed:4")


def test_calibration_sees_what_the_experts_see() -> None:
    seen = Calibration(f16_model_path(), default_text(), tokens=2048)
    name = "blk.2.ffn_down_exps.weight"
    hessian, importance, mean = seen.hessian(name, 3), seen.importance(name, 3), seen.mean_input(name, 3)
    assert hessian is not None
    assert importance is not None
    assert mean is not None
    assert hessian.shape == (256, 256)
    assert mean.shape == (256,)
    assert np.allclose(np.diagonal(hessian), importance, rtol=1e-3)
    assert np.linalg.eigvalsh(hessian.astype(np.float64)).min() > -1e-4 * importance.max()
    assert np.all(mean**2 <= importance * (1 + 1e-3) + 1e-12)
    assert seen.importance("blk.2.ffn_gate_exps.weight", 3) is not None
    assert not np.allclose(
        seen.importance("blk.2.ffn_gate_exps.weight", 3), seen.importance("blk.3.ffn_gate_exps.weight", 3)
    )


def test_calibration_in_several_passes_is_the_same() -> None:
    whole = Calibration(f16_model_path(), default_text(), tokens=1024)
    layer = max(whole._pair_bytes().values())
    parts = Calibration(f16_model_path(), default_text(), tokens=1024, memory=2 * layer)
    for number in range(6):
        name = f"blk.{number}.ffn_up_exps.weight"
        one, other = whole.hessian(name, 5), parts.hessian(name, 5)
        assert one is not None
        assert other is not None
        assert np.array_equal(one, other)
    with pytest.raises(MemoryError, match="second moments"):
        Calibration(f16_model_path(), default_text(), tokens=1024, memory=layer // 2)
