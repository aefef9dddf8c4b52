"""Which experts a model uses on a text, token by token, and what a global LRU cache would make of it."""

import ctypes
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from llama_cpp import llama_cpp

CACHE_SHARES = (0.11, 0.22, 0.45)
CHOICE = "ffn_moe_topk-"
# A token of English text has about four bytes; text beyond this many per token is not tokenized.
BYTES_PER_TOKEN = 16

_name_of = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(("ggml_get_name", llama_cpp._lib))
_data_of = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("ggml_get_data", llama_cpp._lib))


@dataclass(frozen=True)
class Experts:
    """What the file says of the experts. `bytes` counts all matrices of one expert, averaged over layers."""

    layers: int
    per_layer: int
    top_k: int
    bytes: float


@dataclass(frozen=True)
class Measurement:
    """`hit_rates` maps the cached share of experts to the global LRU's hit rate after warm-up."""

    tokens: int
    hit_rates: dict[float, float]
    shared_by_consecutive_tokens: float
    expert_bytes_per_token: int
    largest_logit: float


def measure(model: Path, text: str, tokens: int, threads: int, report: Callable[[], None]) -> Measurement:
    """Decode `tokens` tokens of `text` one by one; `report` is called after each."""
    experts = read_experts(model)
    trace, largest_logit = trace_experts(model, experts, text, tokens, threads, report)
    return Measurement(
        tokens=len(trace),
        hit_rates={
            share: lru_hit_rate(trace, round(share * experts.layers * experts.per_layer)) for share in CACHE_SHARES
        },
        shared_by_consecutive_tokens=consecutive_share(trace),
        expert_bytes_per_token=round(experts.layers * experts.top_k * experts.bytes),
        largest_logit=largest_logit,
    )


def read_experts(model: Path) -> Experts:
    """Count the experts of a GGUF file and their bytes."""
    reader = GGUFReader(model)
    architecture = reader.fields["general.architecture"].contents()
    count = reader.fields.get(f"{architecture}.expert_count")
    if count is None:
        raise ValueError(f"{model} has no experts: {architecture}.expert_count is missing")
    matrices = [tensor for tensor in reader.tensors if tensor.name.endswith("_exps.weight")]
    layers = len({tensor.name.split(".")[1] for tensor in matrices})
    per_layer = int(count.contents())
    total = sum(int(tensor.n_bytes) for tensor in matrices)
    top_k = int(reader.fields[f"{architecture}.expert_used_count"].contents())
    return Experts(layers, per_layer, top_k, total / (layers * per_layer))


def trace_experts(
    model: Path, experts: Experts, text: str, tokens: int, threads: int, report: Callable[[], None]
) -> tuple[np.ndarray, float]:
    """(trace, largest logit): the experts chosen, int32 (tokens, layers, top_k), by stock llama.cpp."""
    chosen: dict[int, np.ndarray] = {}

    def on_tensor(tensor: int, ask: bool, _user: int) -> bool:
        name = _name_of(tensor).decode()
        if not name.startswith(CHOICE):
            return not ask
        if not ask:
            ids = (ctypes.c_int32 * experts.top_k).from_address(_data_of(tensor))
            chosen[int(name.removeprefix(CHOICE))] = np.array(ids, np.int32)
        return True

    trace, largest = [], 0.0
    with _opened(model, tokens, threads, on_tensor) as (context, vocabulary):
        for token in tokenize(vocabulary, text, tokens):
            one = (llama_cpp.llama_token * 1)(token)
            if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(one, 1)):
                raise RuntimeError(f"llama.cpp could not decode token {len(trace)} of {model}")
            trace.append([chosen[layer] for layer in sorted(chosen)])
            size = llama_cpp.llama_vocab_n_tokens(vocabulary)
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (size,))
            largest = max(largest, float(np.abs(logits).max()))
            if not np.isfinite(logits).all():
                raise RuntimeError(f"{model} computed a logit that is not finite at token {len(trace)}")
            report()
    return np.array(trace), largest


@contextmanager
def _opened(
    model: Path, tokens: int, threads: int, on_tensor: Callable[[int, bool, int], bool]
) -> Iterator[tuple[int, int]]:
    """(context, vocabulary) of the model, with a callback on every tensor computed."""
    llama_cpp.llama_backend_init()
    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, None)
    callback = llama_cpp.ggml_backend_sched_eval_callback(on_tensor)
    model_settings = llama_cpp.llama_model_default_params()
    model_settings.use_extra_bufts = False  # repacking would hold the experts twice
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = tokens + 1
    settings.n_threads = settings.n_threads_batch = threads
    settings.cb_eval = callback
    loaded = llama_cpp.llama_model_load_from_file(str(model).encode(), model_settings)
    if not loaded:
        raise RuntimeError(f"llama.cpp could not load {model}")
    context = llama_cpp.llama_init_from_model(loaded, settings)
    try:
        if not context:
            raise RuntimeError(f"llama.cpp could not make a context of {tokens + 1} tokens for {model}")
        yield context, llama_cpp.llama_model_get_vocab(loaded)
    finally:
        if context:
            llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(loaded)
        llama_cpp.llama_log_set(llama_cpp.llama_log_callback(0), None)


def tokenize(vocabulary: int, text: str, count: int) -> list[int]:
    """The first `count` tokens of `text`."""
    data = text.encode()[: count * BYTES_PER_TOKEN]
    room = (llama_cpp.llama_token * len(data))()
    found = llama_cpp.llama_tokenize(vocabulary, data, len(data), room, len(room), False, True)
    if found < count:
        raise ValueError(f"the text has only {found} tokens where {count} are asked for")
    return list(room[:count])


def lru_hit_rate(trace: np.ndarray, capacity: int) -> float:
    """Hit rate of a global LRU cache of `capacity` experts, counted over the second half of the trace.

    `trace` is int (tokens, layers, top_k); a layer's experts are looked up in the order given.
    """
    cache: OrderedDict[tuple[int, int], None] = OrderedDict()
    hits = lookups = 0
    for position, layers in enumerate(trace.tolist()):
        warm = position >= len(trace) // 2
        for key in ((layer, expert) for layer, chosen in enumerate(layers) for expert in chosen):
            hit = key in cache
            cache[key] = None
            cache.move_to_end(key)
            if len(cache) > capacity:
                cache.popitem(last=False)
            hits += warm and hit
            lookups += warm
    return hits / lookups


def consecutive_share(trace: np.ndarray) -> float:
    """Mean share of a token's experts that the token before it used in the same layer."""
    top_k = trace.shape[2]
    shares = [len({*a} & {*b}) / top_k for old, new in pairwise(trace.tolist()) for a, b in zip(old, new, strict=True)]
    return sum(shares) / len(shares)
