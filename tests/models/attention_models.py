"""Architectures in which every layer attends."""

from __future__ import annotations

from functools import partial

from .architecture import (
    GRANITE_SCALES,
    SIGMOID,
    Architecture,
    granite_head,
    groups,
    lead_dense,
    per_layer,
    rope_sections,
    sigmoid_routing,
)
from .blocks import Dims, Tensor, attention, dense_ffn, experts, head, latent_attention, mlp, norm, vector, weight

_MLA = {"q_rank": 64, "kv_rank": 64, "nope": 64, "rope": 32, "value": 64}


def _deepseek2(merged: bool) -> Architecture:
    return Architecture(
        "deepseek2",
        lambda d, i: (
            latent_attention(d, **_MLA)
            + lead_dense(d, i, experts(d, probs_bias=0.05, shared=d.n_ff_exp, merged=merged))
        ),
        lambda d: (
            sigmoid_routing(**groups(d))
            | {
                "attention.head_count_kv": 1,
                "attention.q_lora_rank": _MLA["q_rank"],
                "attention.kv_lora_rank": _MLA["kv_rank"],
                "attention.key_length": _MLA["kv_rank"] + _MLA["rope"],
                "attention.value_length": _MLA["kv_rank"],
                "attention.key_length_mla": _MLA["nope"] + _MLA["rope"],
                "attention.value_length_mla": _MLA["value"],
                "rope.dimension_count": _MLA["rope"],
            }
        ),
    )


def _gpt_oss(d: Dims, i: int) -> list[Tensor]:
    norms = ("attn_norm", "post_attention_norm")
    return attention(d, bias=True, out_bias=True, sinks=True, norms=norms) + experts(d, biases=True, ffn_norm=None)


def _glm4(d: Dims, i: int) -> list[Tensor]:
    moe = experts(d, probs_bias=0.05, shared=d.n_ff_exp, ffn_norm=None)
    mixer = attention(d, bias=True, qk_norm="head", norms=("attn_norm", "post_attention_norm"))
    nextn = [
        weight("nextn.eh_proj.weight", 2 * d.n_embd, d.n_embd),
        *norm("nextn.enorm", d.n_embd),
        *norm("nextn.hnorm", d.n_embd),
    ]
    return mixer + lead_dense(d, i, moe, ffn_norm=False) + (nextn if i >= d.n_layer else [])


def _arctic(d: Dims, i: int) -> list[Tensor]:
    return attention(d) + dense_ffn(d, width=d.n_embd) + experts(d, ffn_norm="ffn_norm_exps")


def _step35(d: Dims, i: int) -> list[Tensor]:
    gate = weight("attn_gate.weight", d.n_embd, d.n_head)
    return [*attention(d, qk_norm="head"), gate, *lead_dense(d, i, experts(d, probs_bias=0.05, shared=d.n_ff_exp))]


def _gemma4(d: Dims, i: int) -> list[Tensor]:
    norms = ("post_attention_norm", "post_ffw_norm", "post_ffw_norm_1", "post_ffw_norm_2", "pre_ffw_norm_2")
    return [
        *attention(d, qk_norm="head", qk_norm_mean=0.5, norms=("attn_norm", *norms)),
        *dense_ffn(d),
        *experts(d, ffn_norm=None, merged=True),
        vector("ffn_gate_inp.scale", d.n_embd, mean=d.n_embd**0.5),
        vector("ffn_down_exps.scale", d.n_expert, mean=1.0),
    ]


def _gemma4_head(d: Dims) -> list[Tensor]:
    return [*head(d, embd=d.n_embd**-0.5), vector("rope_freqs.weight", d.head_dim // 2, mean=1.0, std=0.0)]


def _grovemoe(d: Dims, i: int) -> list[Tensor]:
    chunks = mlp("_chexps", d.n_embd, d.n_ff_exp // 2, experts=d.n_expert // 2, role="expert")
    return attention(d, qk_norm="head") + experts(d) + chunks


ATTENTION_MODELS: dict[str, Architecture] = {
    "llama": Architecture("llama", lambda d, i: attention(d) + dense_ffn(d), moe=False),
    "mixtral": Architecture("llama", lambda d, i: attention(d) + experts(d), feed_forward_is_expert=True),
    "qwen3moe": Architecture("qwen3moe", lambda d, i: attention(d, qk_norm="head") + experts(d)),
    "qwen2moe": Architecture(
        "qwen2moe",
        lambda d, i: attention(d, bias=True) + experts(d, shared=2 * d.n_ff_exp, shared_gate=True),
        lambda d: {"expert_shared_feed_forward_length": 2 * d.n_ff_exp},
    ),
    "olmoe": Architecture(
        "olmoe",
        lambda d, i: attention(d, qk_norm="full", heads_kv=d.n_head) + experts(d),
        lambda d: {"attention.head_count_kv": d.n_head},
        feed_forward_is_expert=True,
    ),
    "deepseek2": _deepseek2(merged=False),
    "deepseek2-merged": _deepseek2(merged=True),
    "gpt-oss": Architecture("gpt-oss", _gpt_oss, lambda d: {"attention.sliding_window": 128}, expert_type="MXFP4"),
    "granitemoe": Architecture(
        "granitemoe",
        lambda d, i: attention(d) + experts(d, shared=d.n_ff_exp),
        lambda d: {"expert_shared_feed_forward_length": d.n_ff_exp, **GRANITE_SCALES},
        head=granite_head,
        feed_forward_is_expert=True,
    ),
    "gemma4": Architecture(
        "gemma4",
        _gemma4,
        lambda d: {
            "attention.sliding_window": 128,
            "attention.sliding_window_pattern": per_layer(d, lambda i: i % 2 == 0),
            "attention.key_length_swa": d.head_dim,
            "attention.value_length_swa": d.head_dim,
            "embedding_length_per_layer_input": 0,
            "final_logit_softcapping": 30.0,
        },
        head=_gemma4_head,
    ),
    "llama4": Architecture(
        "llama4",
        lambda d, i: attention(d) + (experts(d, shared=d.n_ff_exp) if i % 2 else dense_ffn(d)),
        lambda d: {"interleave_moe_layer_step": 2},
        n_layer=4,  # with fewer, llama.cpp allocates an attention scale that no layer uses, and aborts
        n_expert_used=1,
    ),
    "grovemoe": Architecture(
        "grovemoe",
        _grovemoe,
        lambda d: {
            "expert_chunk_feed_forward_length": d.n_ff_exp // 2,
            "expert_group_scale": 0.5,
            "experts_per_group": 2,
        },
    ),
    "glm4moe": Architecture("glm4moe", _glm4, lambda d: sigmoid_routing()),
    "glm4moe-mtp": Architecture("glm4moe", _glm4, lambda d: sigmoid_routing(), n_nextn=1),
    "ernie4_5-moe": Architecture(
        "ernie4_5-moe",
        lambda d, i: attention(d) + lead_dense(d, i, experts(d, probs_bias=0.01, shared=d.n_ff_exp)),
        lambda d: {
            "expert_shared_feed_forward_length": d.n_ff_exp,
            "interleave_moe_layer_step": 1,
            "leading_dense_block_count": 1,
        },
    ),
    "bailingmoe2": Architecture(
        "bailingmoe2",
        lambda d, i: (
            attention(d, fused=True, qk_norm="head") + lead_dense(d, i, experts(d, probs_bias=0.05, shared=d.n_ff_exp))
        ),
        lambda d: sigmoid_routing(**groups(d)),
    ),
    "dots1": Architecture(
        "dots1",
        lambda d, i: (
            attention(d, qk_norm="head", heads_kv=d.n_head)
            + lead_dense(d, i, experts(d, probs_bias=0.05, shared=d.n_ff_exp))
        ),
        lambda d: sigmoid_routing() | {"attention.head_count_kv": d.n_head},
    ),
    "phimoe": Architecture(
        "phimoe",
        lambda d, i: attention(d, bias=True, out_bias=True, norm_bias=True) + experts(d, norm_bias=True),
        head=partial(head, bias=True),
        n_expert_used=2,
        feed_forward_is_expert=True,
    ),
    "dbrx": Architecture(
        "dbrx",
        lambda d, i: attention(d, fused=True, norms=("attn_norm", "attn_output_norm")) + experts(d, ffn_norm=None),
        lambda d: {"attention.clamp_kqv": 8.0},
        feed_forward_is_expert=True,
    ),
    "smallthinker": Architecture(
        "smallthinker",
        lambda d, i: attention(d) + experts(d),
        lambda d: {"expert_gating_func": SIGMOID},
    ),
    "hunyuan-moe": Architecture(
        "hunyuan-moe",
        lambda d, i: attention(d, qk_norm="head") + experts(d, shared=d.n_ff_exp),
        lambda d: {"expert_shared_feed_forward_length": d.n_ff_exp},
        feed_forward_is_expert=True,
    ),
    "minimax-m2": Architecture(
        "minimax-m2",
        lambda d, i: attention(d, qk_norm="full") + experts(d, probs_bias=0.05),
        lambda d: {"expert_gating_func": SIGMOID},
        feed_forward_is_expert=True,
    ),
    "deepseek": Architecture(
        "deepseek",
        lambda d, i: attention(d) + lead_dense(d, i, experts(d, shared=2 * d.n_ff_exp)),
        lambda d: {"leading_dense_block_count": 1, "expert_shared_count": 2},
    ),
    "bailingmoe": Architecture(
        "bailingmoe",
        lambda d, i: attention(d) + experts(d, shared=d.n_ff_exp),
        lambda d: {
            "expert_shared_count": 1,
            "expert_weights_norm": True,
            "expert_weights_scale": 1.0,
            "rope.dimension_count": d.head_dim,
        },
    ),
    "qwen3vlmoe": Architecture(
        "qwen3vlmoe",
        lambda d, i: attention(d, qk_norm="head") + experts(d),
        lambda d: {"rope.dimension_sections": rope_sections(d)},
    ),
    "exaone-moe": Architecture(
        "exaone-moe",
        lambda d, i: attention(d, qk_norm="head") + lead_dense(d, i, experts(d, probs_bias=0.05, shared=d.n_ff_exp)),
        lambda d: sigmoid_routing() | {"attention.sliding_window": 128},
    ),
    "mimo2": Architecture(
        "mimo2",
        lambda d, i: attention(d, sinks=i % 2 == 0) + lead_dense(d, i, experts(d, probs_bias=0.05)),
        lambda d: {
            "attention.sliding_window": 128,
            "attention.sliding_window_pattern": per_layer(d, lambda i: i % 2 == 0),
            "rope.freq_base_swa": 10000.0,
        },
    ),
    "arctic": Architecture("arctic", _arctic, n_expert_used=2, feed_forward_is_expert=True),
    "step35": Architecture(
        "step35",
        _step35,
        lambda d: (
            sigmoid_routing()
            | {
                "expert_shared_feed_forward_length": d.n_ff_exp,
                "attention.sliding_window": 128,
                "attention.sliding_window_pattern": per_layer(d, lambda i: i % 2 == 0),
                "rope.freq_base_swa": 10000.0,
                "swiglu_clamp_exp": per_layer(d, lambda i: 2.0),
                "swiglu_clamp_shexp": per_layer(d, lambda i: 2.0),
            }
        ),
    ),
    "cohere2moe": Architecture(
        "cohere2moe",
        lambda d, i: attention(d) + lead_dense(d, i, experts(d, ffn_norm=None, merged=True), ffn_norm=False),
        lambda d: sigmoid_routing(expert_shared_count=0) | {"attention.sliding_window": 128, "logit_scale": 1.0},
    ),
    "grok": Architecture(
        "grok",
        lambda d, i: attention(d, norms=("attn_norm", "attn_output_norm", "layer_output_norm")) + experts(d),
        lambda d: {"embedding_scale": 1.0, "logit_scale": 1.0, "attention.output_scale": 1 / 8},
        n_expert_used=2,
    ),
}
