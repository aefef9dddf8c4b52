"""The pieces that architectures are made of, as lists of tensors without their `blk.N.` prefix.

Shapes are in ggml's order (the row length first), as in llama.cpp's sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Tensor(NamedTuple):
    """One tensor to write: normally distributed values, stored as F32, as the dense or as the expert type."""

    name: str
    shape: tuple[int, ...]
    std: float
    mean: float = 0.0
    role: str = "f32"


@dataclass(frozen=True)
class Dims:
    """The sizes of one model."""

    n_layer: int
    n_embd: int
    n_ff_exp: int
    n_expert: int
    n_expert_used: int
    n_vocab: int

    @property
    def head_dim(self) -> int:
        return next(size for size in (64, 48, 40, 32, self.n_embd) if self.n_embd % size == 0)

    @property
    def n_head(self) -> int:
        return self.n_embd // self.head_dim

    @property
    def n_head_kv(self) -> int:
        return next((self.n_head // k for k in (2, 3, 5) if self.n_head % k == 0), self.n_head)

    @property
    def n_ff(self) -> int:
        return 2 * self.n_embd


def weight(name: str, *shape: int, gain: float = 1.0, role: str = "dense") -> Tensor:
    """A matrix that keeps the root mean square of its input, times gain."""
    return Tensor(name, shape, gain / shape[0] ** 0.5, role=role)


def vector(name: str, *shape: int, mean: float = 0.0, std: float = 0.1) -> Tensor:
    return Tensor(name, shape, std, mean)


def norm(name: str, size: int, *, mean: float = 1.0, bias: bool = False) -> list[Tensor]:
    biases = [vector(f"{name}.bias", size)] if bias else []
    return [vector(f"{name}.weight", size, mean=mean, std=0.1 * mean), *biases]


def head(
    d: Dims, *, embd: float = 1.0, logits: float = 2.5, norm_name: str = "output_norm", bias: bool = False
) -> list[Tensor]:
    """Embedding, last norm and output; `embd` and `logits` are the standard deviations of the two ends."""
    return [
        Tensor("token_embd.weight", (d.n_embd, d.n_vocab), embd, role="dense"),
        *norm(norm_name, d.n_embd, bias=bias),
        weight("output.weight", d.n_embd, d.n_vocab, gain=logits),
        *([vector("output.bias", d.n_vocab)] if bias else []),
    ]


def attention(
    d: Dims,
    *,
    qk_norm: str | None = None,
    qk_norm_mean: float = 1.5,
    heads_kv: int | None = None,
    bias: bool = False,
    out_bias: bool = False,
    fused: bool = False,
    gated: bool = False,
    sinks: bool = False,
    norms: tuple[str, ...] = ("attn_norm",),
    norm_bias: bool = False,
) -> list[Tensor]:
    """Grouped-query attention; `qk_norm` is "head" (shared by the heads) or "full" (over all of them)."""
    n_q = d.n_embd * (2 if gated else 1)
    n_kv = (d.n_head_kv if heads_kv is None else heads_kv) * d.head_dim
    parts = [("attn_qkv", n_q + 2 * n_kv)] if fused else [("attn_q", n_q), ("attn_k", n_kv), ("attn_v", n_kv)]
    tensors = [tensor for name in norms for tensor in norm(name, d.n_embd, bias=norm_bias)]
    for name, n_out in parts:
        gain = 1.5 if qk_norm is None and name != "attn_v" else 1.0
        tensors.append(weight(f"{name}.weight", d.n_embd, n_out, gain=gain))
        if bias:
            tensors.append(vector(f"{name}.bias", n_out))
    tensors.append(weight("attn_output.weight", d.n_embd, d.n_embd, gain=1.5))
    if out_bias:
        tensors.append(vector("attn_output.bias", d.n_embd))
    if qk_norm:
        for name, size in (("attn_q_norm", d.n_embd), ("attn_k_norm", n_kv)):
            tensors += norm(name, d.head_dim if qk_norm == "head" else size, mean=qk_norm_mean)
    if sinks:
        tensors.append(vector("attn_sinks.weight", d.n_head, std=1.0))
    return tensors


def latent_attention(d: Dims, *, q_rank: int, kv_rank: int, nope: int, rope: int, value: int) -> list[Tensor]:
    """Multi-head latent attention with the absorbed key and value projections of current files."""
    return [
        *norm("attn_norm", d.n_embd),
        weight("attn_q_a.weight", d.n_embd, q_rank),
        *norm("attn_q_a_norm", q_rank),
        weight("attn_q_b.weight", q_rank, d.n_head * (nope + rope), gain=1.5),
        weight("attn_kv_a_mqa.weight", d.n_embd, kv_rank + rope),
        *norm("attn_kv_a_norm", kv_rank),
        Tensor("attn_k_b.weight", (nope, kv_rank, d.n_head), 1.5 / kv_rank**0.5, role="dense"),
        weight("attn_v_b.weight", kv_rank, value, d.n_head),
        weight("attn_output.weight", d.n_head * value, d.n_embd, gain=1.5),
    ]


def mlp(
    name: str, n_in: int, n_ff: int, *, gate: bool = True, experts: int = 0, merged: bool = False, role: str = "dense"
) -> list[Tensor]:
    """ffn_gate, ffn_up and ffn_down with a suffix such as `_exps`, stacked if there are experts."""
    stack = (experts,) if experts else ()
    if merged:
        rows = [weight(f"ffn_gate_up{name}.weight", n_in, 2 * n_ff, *stack, gain=1.25, role=role)]
    else:
        parts = ("gate", "up") if gate else ("up",)
        rows = [weight(f"ffn_{part}{name}.weight", n_in, n_ff, *stack, gain=1.25, role=role) for part in parts]
    return [*rows, weight(f"ffn_down{name}.weight", n_ff, n_in, *stack, gain=2.0, role=role)]


def dense_ffn(d: Dims, *, width: int = 0, ffn_norm: bool = True) -> list[Tensor]:
    return [*(norm("ffn_norm", d.n_embd) if ffn_norm else []), *mlp("", d.n_embd, width or d.n_ff)]


def experts(
    d: Dims,
    *,
    gate: bool = True,
    merged: bool = False,
    probs_bias: float = 0.0,
    biases: bool = False,
    shared: int = 0,
    shared_gate: bool = False,
    latent: int = 0,
    ffn_norm: str | None = "ffn_norm",
    norm_bias: bool = False,
    router: float = 2.5,
) -> list[Tensor]:
    """Router and routed experts, with an always active one of width `shared`.

    `router` is the spread of the router's logits, `probs_bias` of what is added to choose experts, `latent` the width
    that the experts see if it is not the model's.
    """
    n_in = latent or d.n_embd
    tensors = norm(ffn_norm, d.n_embd, bias=norm_bias) if ffn_norm else []
    tensors.append(weight("ffn_gate_inp.weight", d.n_embd, d.n_expert, gain=router, role="f32"))
    routed = mlp("_exps", n_in, d.n_ff_exp, gate=gate, experts=d.n_expert, merged=merged, role="expert")
    tensors += routed
    if biases:
        tensors.append(vector("ffn_gate_inp.bias", d.n_expert))
        tensors += [vector(t.name.replace(".weight", ".bias"), *t.shape[1:]) for t in routed]
    if probs_bias:
        tensors.append(vector("exp_probs_b.bias", d.n_expert, std=probs_bias))
    if latent:
        tensors += [
            weight("ffn_latent_down.weight", d.n_embd, latent),
            weight("ffn_latent_up.weight", latent, d.n_embd),
        ]
    if shared:
        tensors += mlp("_shexp", d.n_embd, shared, gate=gate)
    if shared_gate:
        tensors.append(vector("ffn_gate_inp_shexp.weight", d.n_embd, std=d.n_embd**-0.5))
    return tensors


def mamba2(d: Dims, *, state: int, heads: int, groups: int, kernel: int = 4) -> list[Tensor]:
    inner = 2 * d.n_embd
    channels = inner + 2 * groups * state
    return [
        *norm("attn_norm", d.n_embd),
        weight("ssm_in.weight", d.n_embd, inner + channels + heads),
        weight("ssm_conv1d.weight", kernel, channels, role="f32"),
        vector("ssm_conv1d.bias", channels),
        vector("ssm_dt.bias", heads, mean=-1.0),
        vector("ssm_a", 1, heads, mean=-1.0),
        vector("ssm_d", 1, heads, mean=1.0),
        vector("ssm_norm.weight", inner // groups, groups, mean=1.0),
        weight("ssm_out.weight", inner, d.n_embd, gain=1.5),
    ]


def mamba1(d: Dims, *, state: int, rank: int, kernel: int = 4) -> list[Tensor]:
    inner = 2 * d.n_embd
    return [
        *norm("attn_norm", d.n_embd),
        weight("ssm_in.weight", d.n_embd, 2 * inner),
        weight("ssm_conv1d.weight", kernel, inner, role="f32"),
        vector("ssm_conv1d.bias", inner),
        weight("ssm_x.weight", inner, rank + 2 * state),
        *norm("ssm_dt_norm", rank),
        weight("ssm_dt.weight", rank, inner),
        vector("ssm_dt.bias", inner, mean=-1.0),
        *norm("ssm_b_norm", state),
        *norm("ssm_c_norm", state),
        vector("ssm_a", state, inner, mean=-1.0),
        vector("ssm_d", inner, mean=1.0),
        weight("ssm_out.weight", inner, d.n_embd, gain=1.5),
    ]


def delta_net(d: Dims, *, state: int, k_heads: int, v_heads: int, fused_ba: bool, kernel: int = 4) -> list[Tensor]:
    """Gated delta net; `fused_ba` joins the beta and alpha projections, as in qwen3next."""
    value = state * v_heads
    channels = 2 * state * k_heads + value
    rates = [("ssm_ba", 2 * v_heads)] if fused_ba else [("ssm_beta", v_heads), ("ssm_alpha", v_heads)]
    return [
        *norm("attn_norm", d.n_embd),
        weight("attn_qkv.weight", d.n_embd, channels),
        weight("attn_gate.weight", d.n_embd, value),
        weight("ssm_conv1d.weight", kernel, channels, role="f32"),
        vector("ssm_dt.bias", v_heads, mean=-1.0),
        vector("ssm_a", v_heads, mean=-1.0),
        *[weight(f"{name}.weight", d.n_embd, n_out) for name, n_out in rates],
        *norm("ssm_norm", state),
        weight("ssm_out.weight", value, d.n_embd, gain=1.5),
    ]


def short_conv(d: Dims, *, kernel: int) -> list[Tensor]:
    return [
        *norm("attn_norm", d.n_embd),
        weight("shortconv.conv.weight", kernel, d.n_embd, role="f32"),
        weight("shortconv.in_proj.weight", d.n_embd, 3 * d.n_embd),
        weight("shortconv.out_proj.weight", d.n_embd, d.n_embd, gain=1.5),
    ]
