"""What a synthetic model looks like: its sizes, its tensor types, its presets."""

from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

# Types that ggml quantizes without an importance matrix.
TYPE_NAMES = (
    "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl",
    "q2_k", "q3_k", "q4_k", "q5_k", "q6_k",
)  # fmt: skip


def ggml_type(name: str) -> GGMLQuantizationType:
    """The ggml type called `name`, for example `q4_k`."""
    return GGMLQuantizationType[name.upper()]


@dataclass(frozen=True)
class Shape:
    """Sizes of a qwen3moe model. `hidden`, `width` and `head_dim` count channels."""

    label: str
    layers: int
    experts: int
    top_k: int
    hidden: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    expert_type: str = "q4_k"
    attention_type: str = "q8_0"
    embedding_type: str = "q8_0"
    output_type: str = "q6_k"
    context_length: int = 32768
    rope_base: float = 1e6
    norm_epsilon: float = 1e-6

    def check(self) -> None:
        """Raise ValueError, naming the value, when no model can have this shape."""
        for name in ("layers", "experts", "top_k", "hidden", "width", "heads", "kv_heads", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.top_k > self.experts:
            raise ValueError(f"top-k {self.top_k} is more than the {self.experts} experts")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv heads evenly")
        if self.head_dim % 2:
            raise ValueError(f"head dimension {self.head_dim} is odd; rotary embedding works on pairs")
        self._check_row("hidden", self.hidden, ("expert_type", "attention_type", "embedding_type", "output_type"))
        self._check_row("width", self.width, ("expert_type",))
        self._check_row("heads x head_dim", self.heads * self.head_dim, ("attention_type",))

    def _check_row(self, what: str, length: int, fields: tuple[str, ...]) -> None:
        for field in fields:
            type_name = getattr(self, field)
            block = GGML_QUANT_SIZES[ggml_type(type_name)][0]
            if length % block:
                raise ValueError(
                    f"{what} is {length}, but {field} {type_name} stores blocks of {block}: "
                    f"use a multiple of {block}, or another type (q8_0 has blocks of 32, f16 none)"
                )


PRESETS = {
    # A quarter of Qwen3-30B-A3B: its sizes, 12 of its 48 layers. About 4.9 GB.
    "qwen3-30b-12l": Shape(
        "qwen3-30b-12l", layers=12, experts=128, top_k=8, hidden=2048, width=768,
        heads=32, kv_heads=4, head_dim=128, vocab_size=151936,
    ),
    # About 670 MB: large enough for a cache to matter, small enough for a quick benchmark. As in the
    # model above a token uses a sixteenth of the experts, so that cache sizes compare.
    "mid": Shape(
        "mid", layers=6, experts=64, top_k=4, hidden=1024, width=512,
        heads=16, kv_heads=4, head_dim=128, vocab_size=151936,
    ),
    # A few MB: for tests.
    "tiny": Shape(
        "tiny", layers=4, experts=16, top_k=2, hidden=256, width=256,
        heads=4, kv_heads=2, head_dim=64, vocab_size=2048, context_length=4096,
    ),
}  # fmt: skip
