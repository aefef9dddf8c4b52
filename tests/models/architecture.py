"""What describes an architecture, and metadata that several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .blocks import Dims, Tensor, dense_ffn, head

SIGMOID = 2  # of llama.cpp's functions that turn router logits into weights


@dataclass(frozen=True)
class Architecture:
    """How to write a model: `block` lists the tensors of one layer, `extra` the metadata beyond the common keys."""

    name: str
    block: Callable[[Dims, int], list[Tensor]]
    extra: Callable[[Dims], dict[str, object]] = lambda d: {}
    head: Callable[[Dims], list[Tensor]] = head
    n_layer: int = 3
    n_nextn: int = 0  # layers that predict further tokens, which llama.cpp skips unless asked for
    n_expert_used: int = 4
    moe: bool = True
    feed_forward_is_expert: bool = False
    expert_type: str = "F16"

    def metadata(self, d: Dims) -> dict[str, object]:
        keys: dict[str, object] = {
            "context_length": 1024,
            "embedding_length": d.n_embd,
            "block_count": d.n_layer + self.n_nextn,
            "feed_forward_length": d.n_ff_exp if self.feed_forward_is_expert else d.n_ff,
            "attention.head_count": d.n_head,
            "attention.head_count_kv": d.n_head_kv,
            "attention.key_length": d.head_dim,
            "attention.value_length": d.head_dim,
            "attention.layer_norm_epsilon": 1e-5,
            "attention.layer_norm_rms_epsilon": 1e-5,
        }
        if self.moe:
            keys |= {
                "expert_count": d.n_expert,
                "expert_used_count": d.n_expert_used,
                "expert_feed_forward_length": d.n_ff_exp,
            }
        if self.n_nextn:
            keys["nextn_predict_layers"] = self.n_nextn
        keys |= self.extra(d)
        return {"general.name": f"random {self.name}"} | {f"{self.name}.{key}": keys[key] for key in keys}

    def tensors(self, d: Dims) -> list[Tensor]:
        blocks = [
            t._replace(name=f"blk.{i}.{t.name}") for i in range(d.n_layer + self.n_nextn) for t in self.block(d, i)
        ]
        return [*self.head(d), *blocks]


def per_layer(d: Dims, value: Callable[[int], object]) -> list[object]:
    return [value(i) for i in range(d.n_layer)]


def heads_kv(d: Dims, is_attention: Callable[[int], bool]) -> dict[str, object]:
    """Layers without attention have no key-value heads."""
    return {"attention.head_count_kv": per_layer(d, lambda i: d.n_head_kv if is_attention(i) else 0)}


def rope_sections(d: Dims) -> list[int]:
    """How many of the rotary pairs follow each axis of a picture, and none of the fourth."""
    third = d.head_dim // 6
    return [third, third, d.head_dim // 2 - 2 * third, 0]


def sigmoid_routing(**more: object) -> dict[str, object]:
    keys = {"expert_gating_func": SIGMOID, "expert_weights_norm": True, "expert_weights_scale": 1.5}
    return keys | {"leading_dense_block_count": 1, "expert_shared_count": 1} | more


def lead_dense(d: Dims, i: int, moe: list[Tensor], **dense: object) -> list[Tensor]:
    return dense_ffn(d, **dense) if i == 0 else moe


def groups(d: Dims) -> dict[str, object]:
    if d.n_expert % 4 or d.n_expert < 8:
        return {}
    return {"expert_group_count": 4, "expert_group_used_count": 2}


GRANITE_SCALES = {"embedding_scale": 12.0, "residual_scale": 0.5, "attention.scale": 1 / 8, "logit_scale": 4.0}
granite_head = partial(head, embd=1 / 12, logits=10.0)
