"""Writes the model as a GGUF file, and compares what llama.cpp computes from it."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from llama_cpp import Llama
from tokenizers import Tokenizer

from default_model import model
from default_model.shape import Shape
from default_model.tokens import SPECIAL

TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NAME, LICENCE = "edgemoe stories", "Apache-2.0"
DESCRIPTION = (
    "A small storytelling chat model: a mixture of experts, trained from scratch on short stories in simple English."
)
# Largest difference of logits of a float32 file; one of F16 has router ties, and is compared by first choices.
TOLERANCE = 2e-3


class Mismatch(Exception):
    """llama.cpp does not compute what was trained."""


def export(parameters: model.Parameters, tokenizer: Tokenizer, shape: Shape, path: Path, *, half: bool = True) -> None:
    """F16 matrices, or F32 ones for comparisons; norms and routers are F32."""
    writer = gguf.GGUFWriter(path, "qwen3moe")
    _describe(writer, shape, half)
    _add_tokenizer(writer, tokenizer)

    def add(name: str, tensor: torch.Tensor, *, exact: bool = False) -> None:
        kind = np.float16 if half and not exact else np.float32
        writer.add_tensor(name, np.ascontiguousarray(tensor.detach().cpu().float().numpy().astype(kind)))

    add("token_embd.weight", parameters["embed"])
    add("output_norm.weight", parameters["norm"], exact=True)
    add("output.weight", parameters["head"])
    exact = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm"}
    for layer in range(shape.layers):
        for ours, theirs in (exact | {"router": "ffn_gate_inp"}).items():
            add(f"blk.{layer}.{theirs}.weight", parameters[f"{layer}.{ours}"], exact=True)
        for ours, theirs in (
            ("q", "attn_q"),
            ("k", "attn_k"),
            ("v", "attn_v"),
            ("o", "attn_output"),
            ("down", "ffn_down_exps"),
        ):
            add(f"blk.{layer}.{theirs}.weight", parameters[f"{layer}.{ours}"])
        gate, up = parameters[f"{layer}.gate_up"].chunk(2, 1)
        add(f"blk.{layer}.ffn_gate_exps.weight", gate)
        add(f"blk.{layer}.ffn_up_exps.weight", up)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, shape: Shape, half: bool) -> None:
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_license(LICENCE)
    writer.add_languages(["en"])
    writer.add_tags(["text-generation", "stories", "mixture-of-experts"])
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.expert_width)
    writer.add_expert_feed_forward_length(shape.expert_width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.used)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    inside = json.loads(tokenizer.to_str())["model"]
    vocabulary = sorted(inside["vocab"], key=inside["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([gguf.TokenType.CONTROL if one in SPECIAL else gguf.TokenType.NORMAL for one in vocabulary])
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in inside["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def llama_logits(llama: Llama, ids: list[int]) -> np.ndarray:
    """[tokens, vocabulary] of a text from an empty context; llama was opened with logits_all."""
    llama.reset()
    llama.eval(ids)
    return np.array(llama.scores[: len(ids)], dtype=np.float64)


def check(parameters: model.Parameters, tokenizer: Tokenizer, shape: Shape, path: Path, texts: list[str]) -> list[str]:
    """Compares ids and logits of texts with llama.cpp's; lines that say how they agree.

    A float32 copy of the file stands beside it while this runs.

    Raises:
        Mismatch: when ids differ, or logits by more than rounding.
    """
    exact_path = path.with_suffix(".f32.gguf")
    export(parameters, tokenizer, shape, exact_path, half=False)
    try:
        return _compare(parameters, tokenizer, shape, path, exact_path, texts)
    finally:
        exact_path.unlink()


def _compare(
    parameters: model.Parameters, tokenizer: Tokenizer, shape: Shape, path: Path, exact_path: Path, texts: list[str]
) -> list[str]:
    options = {"n_ctx": shape.context, "n_batch": shape.context, "logits_all": True, "verbose": False}
    llama = Llama(str(path), **options)
    exact = Llama(str(exact_path), type_k=0, type_v=0, flash_attn=False, **options)
    for text in texts:
        ours = tokenizer.encode(text).ids
        if (theirs := llama.tokenize(text.encode(), add_bos=False, special=False)) != ours:
            raise Mismatch(f"llama.cpp's tokens of {text[:40]!r} are {theirs[:12]}, the tokenizer's {ours[:12]}")
    differences, same = [], []
    for text in texts[:6]:
        ids = [0, *tokenizer.encode(text).ids][: shape.context]
        wanted = model.logits(parameters, ids, shape).numpy()
        differences.append(np.abs(llama_logits(exact, ids) - wanted).max(1))
        same.append(llama_logits(llama, ids).argmax(1) == wanted.argmax(1))
    largest, agreeing = float(np.concatenate(differences).max()), float(np.concatenate(same).mean())
    if largest > TOLERANCE or agreeing < 0.98:
        raise Mismatch(f"logits differ by up to {largest:.5f}, and {agreeing:.1%} of the first choices are equal")
    return [
        f"tokens of {len(texts)} texts are equal",
        f"float32: logits differ by at most {largest:.5f}",
        f"F16: {agreeing:.2%} of first choices are equal",
    ]
