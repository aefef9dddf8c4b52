"""Packs: what is packed comes back, whole or as good as its level says, and other programs see a GGUF."""

from __future__ import annotations

import math
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from llama_cpp import Llama as StockLlama

from edgemoe import Llama
from edgemoe.errors import EdgeMoEError, ModelError, WriteError
from edgemoe.packs.dense import dequantize
from edgemoe.packs.layout import Format
from edgemoe.packs.plan import Settings
from edgemoe.packs.reader import Pack
from edgemoe.packs.source import Source
from edgemoe.packs.unpack import unpack
from edgemoe.packs.verify import verify
from edgemoe.packs.writer import pack
from models import ARCHITECTURES, write_model
from models.quantize import quantize
from packing import SMALL, packed, tensors

SLICED = ["Q4_K", "Q5_K", "Q6_K"]
ENCODED = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q3_K", "IQ4_XS", "MXFP4"]


def metadata(path: Path) -> dict[str, object]:
    with Source(path) as source:
        return {name: value for name, value in source.keys.items() if not name.startswith(("split.", "general.align"))}


def weights(path: Path, group: str) -> np.ndarray:
    """All weights of a group's tensors, expert by expert: float32 [experts, weights]."""
    found = []
    with Source(path) as source:
        for t in sorted(source.tensors, key=lambda t: t.name):
            if t.name.startswith(group.rsplit(".", 1)[0] + ".") and t.name.endswith(f"_{group.split('.')[-1]}.weight"):
                raw = source.read(t, 0, t.bytes).reshape(math.prod(t.ne[1:]), -1)
                found.append(dequantize(raw, t.type).reshape(t.ne[2], -1))
    return np.concatenate(found, axis=1)


# What comes back


@pytest.mark.parametrize("expert_type", SLICED)
def test_slices_come_back_byte_by_byte(tmp_path: Path, expert_type: str) -> None:
    made = packed(tmp_path, expert_type=expert_type)
    assert verify(made.path).damages == []
    whole = unpack(made.path, None, tmp_path / "whole.gguf")
    assert whole.types == {expert_type: 6}
    assert tensors(whole.path) == tensors(tmp_path / "source.gguf")
    assert metadata(whole.path) == metadata(tmp_path / "source.gguf")


@pytest.mark.parametrize("expert_type", [*SLICED, *ENCODED])
def test_levels_are_as_good_as_the_pack_says(tmp_path: Path, expert_type: str) -> None:
    made = packed(tmp_path, expert_type=expert_type)
    assert verify(made.path).damages == []
    with Pack(made.path) as opened:
        levels = opened.levels
        errors = {group.name: opened.errors(group) for group in opened.groups}
    assert levels == ((2, 3, 4, 6) if expert_type in ("Q5_K", "Q6_K") else (2, 3, 4))
    for number, level in enumerate(levels):
        unpacked = unpack(made.path, level, tmp_path / f"level{level}.gguf", type_="F32").path
        for group, expected in errors.items():
            exact, found = weights(tmp_path / "source.gguf", group), weights(unpacked, group)
            lost = ((exact - found).astype(np.float64) ** 2).sum(1) / (exact.astype(np.float64) ** 2).sum(1)
            np.testing.assert_allclose(lost, expected[:, number], rtol=2e-3, atol=1e-9)
            assert lost.max() < (0.2, 0.06, 0.02, 0.002)[number]


def test_tensors_of_different_types_share_a_pack(tmp_path: Path) -> None:
    made = packed(tmp_path, expert_type="Q4_K", mixed=True)  # Q4_K, Q6_K, Q5_K and Q8_0
    assert verify(made.path).damages == []
    assert [at.level for at in made.report.levels] == [2, 3, 4, 6]
    whole = unpack(made.path, None, tmp_path / "whole.gguf")
    source, found = tensors(tmp_path / "source.gguf"), tensors(whole.path)
    differing = {name for name in source if source[name] != found[name]}
    with Pack(made.path) as opened:
        encoded = {t.name for group in opened.groups for t in group.tensors if t.format is Format.T16}
    assert differing == encoded
    assert set(found) == set(source)


@pytest.mark.parametrize("arch", [name for name, architecture in ARCHITECTURES.items() if architecture.moe])
def test_every_architecture_comes_back(tmp_path: Path, arch: str) -> None:
    layers = None if arch in ("llama4", "jamba", "lfm2moe") else 3
    source = write_model(tmp_path / "source.gguf", arch, **(SMALL | {"n_layer": layers}), expert_type="Q4_K")[0]
    made = pack(source, tmp_path / "pack.mwq.gguf")
    assert verify(made.path).damages == []
    whole = unpack(made.path, None, tmp_path / "whole.gguf")
    assert set(whole.types) <= {"Q4_K", "F16"}  # where Q4_K does not divide the rows, the source has another type
    expected, found = tensors(source), tensors(whole.path)
    assert {name: shape for name, (_, shape, _) in found.items()} == {n: shape for n, (_, shape, _) in expected.items()}
    for name, (kind, _, _) in expected.items():
        if kind == 12 or "exps.weight" not in name:
            assert found[name] == expected[name], name


@pytest.mark.parametrize(("n_embd", "n_ff_exp"), [(2880, 64), (64, 1408), (96, 288)])
def test_rows_that_end_in_a_short_superblock(tmp_path: Path, n_embd: int, n_ff_exp: int) -> None:
    made = packed(tmp_path, expert_type="F16", n_embd=n_embd, n_ff_exp=n_ff_exp)
    assert verify(made.path).damages == []
    assert made.report.levels[2].error < 0.02
    unpack(made.path, 4, tmp_path / "level4.gguf")


def test_split_sources_are_merged(tmp_path: Path) -> None:
    parts = write_model(tmp_path / "source.gguf", "qwen3moe", expert_type="Q4_K", split_into=3, **SMALL)
    [one] = write_model(tmp_path / "one.gguf", "qwen3moe", expert_type="Q4_K", **SMALL)
    made = pack(parts[0], tmp_path / "pack.mwq.gguf")
    whole = unpack(made.path, None, tmp_path / "whole.gguf")
    assert tensors(whole.path) == tensors(one)
    assert metadata(whole.path) == metadata(one)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, threads: int) -> None:
    source = write_model(tmp_path / "source.gguf", "qwen3moe", expert_type="Q4_K", mixed=True, **SMALL)[0]
    first = pack(source, tmp_path / "first.mwq.gguf")
    second = pack(source, tmp_path / "second.mwq.gguf", Settings(threads=threads))
    assert first.path.read_bytes() == second.path.read_bytes()


# Settings


@pytest.mark.parametrize("levels", [(2,), (2, 3), (2, 3, 4), (2, 3, 4, 6)])
@pytest.mark.parametrize("expert_type", ["Q4_K", "Q6_K", "BF16"])
def test_levels_can_be_chosen(tmp_path: Path, levels: tuple[int, ...], expert_type: str) -> None:
    made = packed(tmp_path, settings=Settings(levels=levels), expert_type=expert_type)
    assert [at.level for at in made.report.levels] == list(levels)
    assert verify(made.path).damages == []
    unpack(made.path, levels[-1], tmp_path / "last.gguf")


@pytest.mark.parametrize("levels", [(), (3,), (2, 4), (2, 3, 4, 5), (4, 3, 2)])
def test_levels_that_do_not_build_on_each_other_are_refused(tmp_path: Path, levels: tuple[int, ...]) -> None:
    with pytest.raises(EdgeMoEError, match="levels"):
        packed(tmp_path, settings=Settings(levels=levels))


def test_requantize_encodes_slices_anew_and_says_what_is_lost(tmp_path: Path) -> None:
    made = packed(tmp_path, settings=Settings(requantize=True), expert_type="Q4_K")
    assert any("Q4_K" in note and "second time" in note for note in made.notes)
    assert unpack(made.path, None, tmp_path / "whole.gguf").types == {"F16": 6}


class Inputs:
    """What a text might have made of a model: channels of different importance that are correlated."""

    fingerprint = "1"

    def _of(self, tensor: str) -> np.ndarray:
        mixed = np.random.default_rng(len(tensor)).standard_normal((512, 256))
        return (mixed * np.linspace(0.2, 2, 256) + 0.5).astype(np.float32)

    def input_of(self, tensor: str) -> str:
        return tensor

    def importance(self, tensor: str, expert: int) -> np.ndarray | None:
        return (self._of(tensor) ** 2).mean(0) if expert else None

    def mean_input(self, tensor: str, expert: int) -> np.ndarray | None:
        return self._of(tensor).mean(0) if expert else None

    def hessian(self, tensor: str, expert: int) -> np.ndarray | None:
        return self._of(tensor).T @ self._of(tensor) if expert else None


@pytest.mark.parametrize("expert_type", ["BF16", "Q4_K"])
def test_calibration_reaches_the_encoders(tmp_path: Path, expert_type: str) -> None:
    plain = packed(tmp_path, expert_type=expert_type)
    source, made = tmp_path / "source.gguf", {}
    for name, settings in {
        "gptq": Settings(calibration=Inputs()),
        "diagonal": Settings(calibration=Inputs(), gptq=False),
    }.items():
        made[name] = pack(source, tmp_path / f"{name}.mwq.gguf", settings)
        assert verify(made[name].path).damages == []
    with Pack(made["gptq"].path) as gptq, Pack(made["diagonal"].path) as diagonal, Pack(plain.path) as without:
        biased = (2,) if expert_type == "BF16" else ()
        assert (gptq.bias_levels, without.bias_levels) == (biased, ())
        group = gptq.groups[0]
        changed = diagonal.errors(group)[:, 0] != without.errors(group)[:, 0]
        assert changed.tolist() == [False, True, True, True]
        assert np.array_equal(gptq.extent(group, 3, 1), diagonal.extent(group, 3, 1)) == (expert_type == "Q4_K")
    notes = unpack(made["gptq"].path, 2, tmp_path / "level2.gguf").notes
    assert ["row biases" in note for note in notes] == [True] * len(biased)


def test_dense_matrices_are_converted(tmp_path: Path) -> None:
    made = packed(tmp_path, settings=Settings(dense="Q8_0"), expert_type="Q4_K", dense_type="BF16")
    before, after = tensors(tmp_path / "source.gguf"), tensors(made.path)
    assert after["token_embd.weight"][0] == after["blk.0.attn_q.weight"][0] == 8
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight"):
        assert after[name] == before[name]
    exact = np.frombuffer(before["blk.0.attn_q.weight"][2], "<u2").astype(np.uint32) << 16
    found = dequantize(np.frombuffer(after["blk.0.attn_q.weight"][2], np.uint8).reshape(256, -1), 8).ravel()
    assert np.abs(exact.view(np.float32) - found).max() < 0.01
    with pytest.raises(EdgeMoEError, match="Q9_9"):
        pack(tmp_path / "source.gguf", tmp_path / "other.mwq.gguf", Settings(dense="Q9_9"))


@pytest.mark.parametrize(
    ("asked", "columns", "given"),
    [("q6_k", 256, "Q6_K"), ("Q5_K", 256, "Q5_K"), ("Q4_K", 256, "Q4_K"), ("Q6_K", 320, "Q8_0"), ("Q4_K", 320, "Q5_0")],
)
def test_dense_matrices_become_k_quants(tmp_path: Path, asked: str, columns: int, given: str) -> None:
    options = {"expert_type": "F16", "dense_type": "F32", "n_embd": columns}
    made = packed(tmp_path, settings=Settings(dense=asked), **options)
    before, after = tensors(tmp_path / "source.gguf"), tensors(made.path)
    kind = GGMLQuantizationType[given]
    weights = np.frombuffer(before["blk.0.attn_q.weight"][2], "<f4").reshape(-1, columns)
    assert after["blk.0.attn_q.weight"][0] == kind
    assert after["blk.0.attn_q.weight"][2] == quantize(weights, kind).tobytes()
    with closing(Llama(made.path, n_ctx=64, n_threads=1)) as llm:
        llm.eval([1, 2, 3])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_embd": 80}, "multiple of 32"), ({"arch": "llama"}, "no experts")],
)
def test_what_cannot_be_packed_is_refused_by_name(tmp_path: Path, options: dict, message: str) -> None:
    options = {"arch": "qwen3moe", "expert_type": "F16", "dense_type": "F32"} | SMALL | options
    source = write_model(tmp_path / "source.gguf", options.pop("arch"), **options)[0]
    with pytest.raises(ModelError, match=message):
        pack(source, tmp_path / "pack.mwq.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


def test_packs_are_not_packed_again(tmp_path: Path) -> None:
    made = packed(tmp_path, expert_type="Q4_K")
    with pytest.raises(ModelError, match="a pack already"):
        pack(made.path, tmp_path / "again.mwq.gguf")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    made = packed(tmp_path, expert_type="Q4_K")
    source = tmp_path / "source.gguf"
    with pytest.raises(WriteError, match="exists"):
        pack(source, made.path)
    with pytest.raises(EdgeMoEError, match="the source itself"):
        pack(source, source, overwrite=True)
    with pytest.raises(EdgeMoEError, match="the pack itself"):
        unpack(made.path, 4, made.path, overwrite=True)
    assert pack(source, made.path, overwrite=True).bytes == made.bytes


# Other programs


def test_the_gguf_library_reads_packs(tmp_path: Path) -> None:
    made = packed(tmp_path, expert_type="F16")
    reader = GGUFReader(made.path)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert reader.alignment == 4096
    assert reader.get_field("edgemoe.mwq.levels").contents() == [2, 3, 4]
    assert found["blk.0.exps.mwq.2"].data.shape[0] == SMALL["n_expert"]
    assert all(tensor.data_offset % 4096 == 0 for tensor in reader.tensors)
    with Pack(made.path) as opened:
        assert np.array_equal(found["blk.1.exps.mwq.eps"].data, opened.errors(opened.groups[1]))
        assert np.array_equal(found["mwq.t16.4"].data, opened.tables[4])


def test_stock_llama_cpp_refuses_a_pack(tmp_path: Path) -> None:
    made = packed(tmp_path, expert_type="Q4_K")
    code = "import sys; from llama_cpp import Llama; Llama(sys.argv[1], verbose=True)"
    done = subprocess.run([sys.executable, "-c", code, made.path], capture_output=True, text=True, check=False)
    assert "Failed to load model" in done.stderr
    assert "tensor 'blk.0.ffn_gate_exps.weight' not found" in done.stderr


@pytest.mark.parametrize("arch", ["qwen3moe", "deepseek2-merged", "nemotron_h_moe", "grovemoe", "gpt-oss"])
@pytest.mark.parametrize("level", [2, 4])
def test_unpacked_models_run_in_stock_llama_cpp(tmp_path: Path, arch: str, level: int) -> None:
    source = write_model(tmp_path / "source.gguf", arch, expert_type="Q8_0", n_expert=8, n_expert_used=2)[0]
    made = pack(source, tmp_path / "pack.mwq.gguf")
    unpacked = unpack(made.path, level, tmp_path / "level.gguf", type_="Q8_0" if level == 4 else None)
    llm = StockLlama(str(unpacked.path), n_ctx=64, n_threads=1, verbose=False)
    answer = llm.create_completion("Hello", max_tokens=8, temperature=0)
    assert answer["usage"]["completion_tokens"] >= 8
