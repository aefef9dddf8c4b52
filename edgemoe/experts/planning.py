"""Asks llama.cpp what a model and a context would allocate, without allocating it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import llama_cpp.llama_cpp as bindings

from edgemoe import _native
from edgemoe.errors import EdgeMoEError, ModelError
from edgemoe.experts.loading import collected_log, load_model
from edgemoe.experts.quality import LEVELS

_COMPUTE = re.compile(r"(\S+) compute buffer size = +([0-9.,]+) MiB")
_OUTPUT = re.compile(r"output buffer size = +([0-9.,]+) MiB")
_MEMORY = re.compile(r"^\S+: size = +([0-9.,]+) MiB \(", re.MULTILINE)
_UNUSED = re.compile(r"model has unused tensor (\S+) ")
_MIB = 1 << 20
_LOG_ROUNDING = 0.01 * _MIB


@dataclass(frozen=True)
class ContextShape:
    """The context arguments that decide how much memory it takes; types are ggml type numbers."""

    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_outputs_max: int = 0  # tokens of a batch whose logits can be asked for; 0 is all of them
    type_k: int | None = None
    type_v: int | None = None
    flash_attn: bool = False
    n_seq_max: int = 1
    embeddings: bool = False
    swa_full: bool | None = None
    offload_kqv: bool = True

    def params(self) -> Any:
        params = bindings.llama_context_default_params()
        for name in ("n_ctx", "n_batch", "n_ubatch", "n_outputs_max", "n_seq_max", "embeddings", "offload_kqv"):
            setattr(params, name, getattr(self, name))
        for name in ("type_k", "type_v", "swa_full"):
            if (value := getattr(self, name)) is not None:
                setattr(params, name, value)
        params.kv_unified = self.embeddings
        params.flash_attn_type = (
            bindings.LLAMA_FLASH_ATTN_TYPE_ENABLED if self.flash_attn else bindings.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        return params


@dataclass(frozen=True)
class ContextMemory:
    """Bytes of a context: KV (or recurrent) state, buffers that computing writes, and logits."""

    state: int
    compute: int
    output: int


class Planner:
    """One model, loaded without its weights and vocabulary."""

    def __init__(
        self,
        model: Any,
        *,
        n_gpu_layers: int = 0,
        embedding_on_disk: bool = False,
        kv_overrides: dict[str, bool | int | float | str] | None = None,
        top_level: int = len(LEVELS) - 1,
    ) -> None:
        self._engine = _native.Engine(
            model,
            io_threads=1,
            embedding_on_disk=embedding_on_disk,
            top_level=top_level,
            target=0.0,
            read_ahead=False,
            try_ahead=True,
            piece=1 << 18,
            policy="decayed",
            half_life=1.0,
        )
        params = bindings.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        overrides = _override_array(kv_overrides or {})
        params.kv_overrides = overrides
        with collected_log(quiet=True) as log:
            self._model = load_model(self._engine, params, planning=True)
            if not self._model:
                raise ModelError(f"llama.cpp cannot run {model.paths[0]}: {log.errors() or 'no reason given'}")
            self.skipped = frozenset(_UNUSED.findall(log.log().decode(errors="replace")))
        for name in self.skipped:
            self._engine.skip(name)
        self._memory: dict[ContextShape, ContextMemory] = {}

    def check_bits(self, bits: float) -> None:
        """Raises EdgeMoEError when the pack has no heads, or none that can choose a mean of so many bits per weight."""
        self._engine.check_bits(bits)

    def context_memory(self, shape: ContextShape) -> ContextMemory:
        """What a context of `shape` takes. Raises ModelError when llama.cpp refuses the combination."""
        if shape not in self._memory:
            with collected_log(quiet=True) as log:
                context = bindings.llama_init_from_model(self._model, shape.params())
                if not context:
                    raise ModelError(f"llama.cpp refuses this context: {log.errors() or 'no reason given'}")
                bindings.llama_free(context)
                text = log.log().decode(errors="replace")
            if not _COMPUTE.search(text):
                raise EdgeMoEError("llama.cpp does not say what this context takes: its log has changed")
            self._memory[shape] = ContextMemory(
                state=sum(_bytes(size) for size in _MEMORY.findall(text)),
                compute=sum({name: _bytes(size) for name, size in _COMPUTE.findall(text)}.values()),
                output=max((_bytes(size) for size in _OUTPUT.findall(text)), default=0),
            )
        return self._memory[shape]

    def minimum_cache(self, experts_used: int) -> int:
        return self._engine.minimum_cache(experts_used)

    def full_cache(self) -> int:
        return self._engine.full_cache()

    def close(self) -> None:
        if self._model:
            bindings.llama_model_free(self._model)
            self._model = None


def _bytes(mebibytes: str) -> int:
    number = float(mebibytes.replace(",", "."))  # printed by C, with the decimal point of the program's locale
    return math.ceil(number * _MIB + _LOG_ROUNDING)


def _override_array(overrides: dict[str, bool | int | float | str]) -> Any:
    """The metadata overrides as llama.cpp takes them: an array that ends with an empty key."""
    array = (bindings.llama_model_kv_override * (len(overrides) + 1))()
    for item, (key, value) in zip(array, overrides.items(), strict=False):
        item.key = key.encode()
        if isinstance(value, bool):
            item.tag, item.value.val_bool = bindings.LLAMA_KV_OVERRIDE_TYPE_BOOL, value
        elif isinstance(value, int):
            item.tag, item.value.val_i64 = bindings.LLAMA_KV_OVERRIDE_TYPE_INT, value
        elif isinstance(value, float):
            item.tag, item.value.val_f64 = bindings.LLAMA_KV_OVERRIDE_TYPE_FLOAT, value
        else:
            item.tag, item.value.val_str = bindings.LLAMA_KV_OVERRIDE_TYPE_STR, str(value).encode()[:127]
    return array
