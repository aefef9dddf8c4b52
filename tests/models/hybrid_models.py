"""Architectures in which most layers are recurrent or convolve, and some attend."""

from __future__ import annotations

from functools import partial

from .architecture import (
    GRANITE_SCALES,
    Architecture,
    granite_head,
    heads_kv,
    lead_dense,
    per_layer,
    rope_sections,
    sigmoid_routing,
)
from .blocks import Dims, Tensor, attention, delta_net, experts, head, mamba1, mamba2, norm, short_conv

# Gated delta net in every layer but each second one, which has gated attention.
_DELTA = {"state": 64, "k_heads": 2, "v_heads": 4}


def _delta_block(d: Dims, i: int, *, fused_ba: bool, merged: bool) -> list[Tensor]:
    mixer = attention(d, qk_norm="head", gated=True) if i % 2 else delta_net(d, **_DELTA, fused_ba=fused_ba)
    shared = {"shared": d.n_ff_exp, "shared_gate": True}
    return mixer + norm("post_attention_norm", d.n_embd) + experts(d, ffn_norm=None, merged=merged, **shared)


def _delta_keys(d: Dims) -> dict[str, object]:
    return {
        "expert_shared_feed_forward_length": d.n_ff_exp,
        "full_attention_interval": 2,
        "rope.dimension_sections": rope_sections(d),
        "ssm.conv_kernel": 4,
        "ssm.inner_size": _DELTA["state"] * _DELTA["v_heads"],
        "ssm.state_size": _DELTA["state"],
        "ssm.time_step_rank": _DELTA["v_heads"],
        "ssm.group_count": _DELTA["k_heads"],
    }


_MAMBA2 = {"state": 64, "heads": 8, "groups": 2}
_MAMBA1 = {"state": 16, "rank": 16}


def _mamba_keys(d: Dims, *, state: int, heads: int = 0, groups: int = 0, rank: int = 0) -> dict[str, object]:
    return {
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 2 * d.n_embd,
        "ssm.state_size": state,
        "ssm.time_step_rank": heads or rank,
        "ssm.group_count": groups,
    }


def _nemotron(latent: int = 0) -> Architecture:
    def block(d: Dims, i: int) -> list[Tensor]:
        if i % 3 == 0:
            return mamba2(d, **_MAMBA2)
        if i % 3 == 1:
            return attention(d)
        moe = experts(d, gate=False, probs_bias=0.05, shared=d.n_ff_exp, ffn_norm=None, latent=latent)
        return norm("attn_norm", d.n_embd) + moe

    def keys(d: Dims) -> dict[str, object]:
        moe = {"expert_shared_feed_forward_length": d.n_ff_exp, **({"moe_latent_size": latent} if latent else {})}
        width = {"feed_forward_length": per_layer(d, lambda i: d.n_ff_exp if i % 3 == 2 else 0)}
        return sigmoid_routing() | moe | width | heads_kv(d, lambda i: i % 3 == 1) | _mamba_keys(d, **_MAMBA2)

    return Architecture("nemotron_h_moe", block, keys, n_layer=6)


HYBRID_MODELS: dict[str, Architecture] = {
    "lfm2moe": Architecture(
        "lfm2moe",
        lambda d, i: (
            (attention(d, qk_norm="head") if i % 2 else short_conv(d, kernel=3))
            + lead_dense(d, i, experts(d, probs_bias=0.05))
        ),
        lambda d: sigmoid_routing() | heads_kv(d, lambda i: i % 2 == 1) | {"shortconv.l_cache": 3},
        head=partial(head, norm_name="token_embd_norm"),
    ),
    "qwen35moe": Architecture("qwen35moe", partial(_delta_block, fused_ba=False, merged=False), _delta_keys),
    "qwen35moe-merged": Architecture("qwen35moe", partial(_delta_block, fused_ba=False, merged=True), _delta_keys),
    "qwen3next": Architecture("qwen3next", partial(_delta_block, fused_ba=True, merged=False), _delta_keys),
    "nemotron_h_moe": _nemotron(),
    "nemotron_h_moe-latent": _nemotron(latent=128),
    "granitehybrid": Architecture(
        "granitehybrid",
        lambda d, i: (attention(d) if i % 3 == 1 else mamba2(d, **_MAMBA2)) + experts(d, shared=d.n_ff_exp),
        lambda d: (
            {"expert_shared_feed_forward_length": d.n_ff_exp, **GRANITE_SCALES, **_mamba_keys(d, **_MAMBA2)}
            | heads_kv(d, lambda i: i % 3 == 1)
        ),
        head=granite_head,
        feed_forward_is_expert=True,
    ),
    "jamba": Architecture(
        "jamba",
        lambda d, i: (attention(d) if i % 2 else mamba1(d, **_MAMBA1)) + lead_dense(d, i, experts(d), width=d.n_ff_exp),
        lambda d: _mamba_keys(d, **_MAMBA1) | heads_kv(d, lambda i: i % 2 == 1),
        n_expert_used=2,
        feed_forward_is_expert=True,
    ),
}
