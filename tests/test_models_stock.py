"""The models of this package mean something only if stock llama.cpp loads and runs them."""

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from models import ARCHITECTURES, write_model
from models.corrupt import CORRUPTIONS, corrupt, flip_header_bytes
from models.lora import write_lora

PROMPT = (
    b"Hello world, this is what the experts are for. Each token of a text has a few of them, and others have others."
)


def open_stock(path: Path, **options: object) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        str(path), n_ctx=256, n_threads=1, n_threads_batch=1, verbose=False, logits_all=True, **options
    )


def prompt_logits(llama: llama_cpp.Llama) -> np.ndarray:
    tokens = llama.tokenize(PROMPT, add_bos=False)
    llama.reset()
    llama.eval(tokens)
    return np.array(llama.scores[: len(tokens)])


def greedy(llama: llama_cpp.Llama, count: int) -> list[int]:
    tokens = []
    for _ in range(count):
        tokens.append(int(np.argmax(llama.scores[llama.n_tokens - 1])))
        llama.eval(tokens[-1:])
    return tokens


def assert_alive(llama: llama_cpp.Llama) -> None:
    logits = prompt_logits(llama)
    assert np.isfinite(logits).all()
    assert 1 < logits.std() < 4
    assert logits.std(axis=0).mean() > 1, "the logits do not depend on the token"
    assert len(set(greedy(llama, 24))) > 8


class Routing:
    """Collects which experts each token chose, from the tensors that llama.cpp names ffn_moe_argsort."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.chosen: list[np.ndarray] = []
        lib, wrapped = llama_cpp.llama_cpp, llama_cpp.llama_cpp.llama_init_from_model
        self._name = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("ggml_get_name", lib._lib))
        self._data = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("ggml_get_data", lib._lib))
        self._rows = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(("ggml_nrows", lib._lib))
        self._callback = lib.ggml_backend_sched_eval_callback(self._on_tensor)

        def with_callback(model: int, params: Any) -> Any:
            params.cb_eval = self._callback
            return wrapped(model, params)

        monkeypatch.setattr(lib, "llama_init_from_model", with_callback)

    def _on_tensor(self, tensor: int, ask: bool, _: int) -> bool:
        if not self._name(tensor).startswith(b"ffn_moe_argsort"):
            return not ask
        if not ask:
            rows = self._rows(tensor)
            n_expert = ctypes.c_int64.from_address(tensor + 16).value  # ne[0], after the type and the buffer
            ids = (ctypes.c_int32 * (rows * n_expert)).from_address(self._data(tensor))
            self.chosen.append(np.array(ids).reshape(rows, n_expert))
        return True


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_architecture_runs(arch: str, tmp_path: Path) -> None:
    [path] = write_model(tmp_path / "model.gguf", arch)
    assert_alive(open_stock(path))


@pytest.mark.parametrize("arch", [name for name, a in ARCHITECTURES.items() if a.moe])
def test_tokens_choose_different_experts(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path] = write_model(tmp_path / "model.gguf", arch, n_ff_exp=64)
    routing = Routing(monkeypatch)
    n_tokens = len(prompt_logits(open_stock(path)))
    layers = [ids[:, : ARCHITECTURES[arch].n_expert_used] for ids in routing.chosen if len(ids) == n_tokens]
    assert layers
    for ids in layers:
        _, counts = np.unique(ids, return_counts=True)
        assert len(counts) >= ids.shape[1] + 4
        assert counts.max() < 0.9 * n_tokens, "one expert serves every token"


@pytest.mark.parametrize("expert_type", ["F32", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "MXFP4"])
def test_expert_type(expert_type: str, tmp_path: Path) -> None:
    [path] = write_model(tmp_path / "model.gguf", "qwen3moe", expert_type=expert_type, n_expert=8)
    assert_alive(open_stock(path))


def test_mixed_types_in_parts(tmp_path: Path) -> None:
    paths = write_model(tmp_path / "model.gguf", "qwen3moe", expert_type="Q4_K", mixed=True, split_into=3)
    assert [path.name for path in paths] == [f"model-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    assert_alive(open_stock(paths[0]))


@pytest.mark.parametrize(
    ("arch", "n_embd", "n_ff_exp", "expert_type"),
    [
        ("gpt-oss", 2880, 32, "MXFP4"),
        ("gpt-oss", 256, 2880, "MXFP4"),
        ("qwen2moe", 256, 1408, "Q4_K"),
        ("qwen3moe", 2048, 768, "Q4_K"),
    ],
)
def test_real_widths(arch: str, n_embd: int, n_ff_exp: int, expert_type: str, tmp_path: Path) -> None:
    sizes = {"n_embd": n_embd, "n_ff_exp": n_ff_exp, "n_expert": 2, "n_expert_used": 1, "n_layer": 1}
    [path] = write_model(tmp_path / "model.gguf", arch, expert_type=expert_type, **sizes)
    assert_alive(open_stock(path))


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    sizes = {"n_embd": 64, "n_ff_exp": 32}
    files = [write_model(tmp_path / f"{n}.gguf", "qwen3moe", seed=seed, **sizes)[0] for n, seed in enumerate((1, 1, 2))]
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


def test_text_survives_the_tokenizer_and_chat_ends(tmp_path: Path) -> None:
    [path] = write_model(tmp_path / "model.gguf", "qwen3moe", n_ff_exp=64)
    llama = open_stock(path)
    text = "Hello world, naïve 日本語!"
    tokens = llama.tokenize(text.encode(), add_bos=False)
    assert len(tokens) < len(text.encode())
    assert llama.detokenize(tokens).decode() == text
    [control] = llama.tokenize(b"<|im_end|>", add_bos=False, special=True)
    assert control == llama.token_eos()
    answer = llama.create_chat_completion([{"role": "user", "content": "What is this?"}], max_tokens=16, temperature=0)
    assert answer["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("targets", [("attn_q", "attn_output"), ("ffn_up_exps",), ("ffn_down_exps", "ffn_gate_exps")])
def test_lora_changes_the_logits(targets: tuple[str, ...], tmp_path: Path) -> None:
    files = write_model(tmp_path / "model.gguf", "qwen3moe", n_ff_exp=64)
    adapter = write_lora(tmp_path / "adapter.gguf", files, targets=targets)
    plain = prompt_logits(open_stock(files[0]))
    adapted = prompt_logits(open_stock(files[0], lora_path=str(adapter)))
    assert np.isfinite(adapted).all()
    assert np.abs(adapted - plain).mean() > 0.01


def test_corruptions_differ_from_the_good_file(tmp_path: Path) -> None:
    [good] = write_model(tmp_path / "good.gguf", "qwen3moe", n_embd=64, n_ff_exp=32, n_expert=4, n_layer=2)
    data = good.read_bytes()
    for kind in CORRUPTIONS:
        bad = corrupt(good, kind, tmp_path)
        assert not bad.is_file() or bad.read_bytes() != data, kind
    first, again = ([p.read_bytes() for _, p in flip_header_bytes(good, tmp_path, count=4)] for _ in range(2))
    assert first == again
    assert len({*first, data}) > 1
