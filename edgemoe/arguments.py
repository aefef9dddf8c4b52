"""What `llama_cpp.Llama` takes by keyword, as types: the requests and the constructor of `edgemoe.Llama` pass it on.

A type checker then knows a wrong name, and whether a call streams. Values and defaults are llama_cpp's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from llama_cpp import (
        BaseLlamaTokenizer,
        LlamaGrammar,
        LogitsProcessorList,
        StoppingCriteriaList,
    )
    from llama_cpp.llama_chat_format import LlamaChatCompletionHandler
    from llama_cpp.llama_speculative import LlamaDraftModel
    from llama_cpp.llama_types import (
        ChatCompletionFunction,
        ChatCompletionRequestFunctionCall,
        ChatCompletionRequestResponseFormat,
        ChatCompletionTool,
        ChatCompletionToolChoiceOption,
    )


class Sampling(TypedDict, total=False):
    """How tokens are chosen, and when an answer ends."""

    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    typical_p: float
    tfs_z: float
    stop: str | list[str] | None
    seed: int | None
    frequency_penalty: float
    presence_penalty: float
    repeat_penalty: float
    mirostat_mode: int
    mirostat_tau: float
    mirostat_eta: float
    logit_bias: dict[int, float] | None
    logits_processor: LogitsProcessorList | None
    grammar: LlamaGrammar | None
    model: str | None


class CompletionOptions(Sampling, total=False):
    """What `create_completion` takes beside its prompt, `stream` and `quality`."""

    suffix: str | None
    logprobs: int | None
    echo: bool
    stopping_criteria: StoppingCriteriaList | None


class ChatOptions(Sampling, total=False):
    """What `create_chat_completion` takes beside its messages, `stream` and `quality`."""

    functions: list[ChatCompletionFunction] | None
    function_call: ChatCompletionRequestFunctionCall | None
    tools: list[ChatCompletionTool] | None
    tool_choice: ChatCompletionToolChoiceOption | None
    response_format: ChatCompletionRequestResponseFormat | None
    logprobs: bool | None
    top_logprobs: int | None


class LlamaArguments(TypedDict, total=False):
    """What the constructor of `llama_cpp.Llama` takes, without what `edgemoe.Llama` names itself."""

    n_gpu_layers: int
    split_mode: int
    main_gpu: int
    tensor_split: list[float] | None
    vocab_only: bool
    use_mmap: bool
    use_mlock: bool
    kv_overrides: dict[str, bool | int | float | str] | None
    seed: int
    n_batch: int
    n_ubatch: int
    rope_scaling_type: int | None
    pooling_type: int
    attention_type: int
    rope_freq_base: float
    rope_freq_scale: float
    yarn_ext_factor: float
    yarn_attn_factor: float
    yarn_beta_fast: float
    yarn_beta_slow: float
    yarn_orig_ctx: int
    logits_all: bool
    embedding: bool
    offload_kqv: bool
    flash_attn: bool
    op_offload: bool | None
    swa_full: bool | None
    no_perf: bool
    last_n_tokens_size: int
    lora_base: str | None
    lora_scale: float
    lora_path: str | None
    numa: bool | int
    chat_format: str | None
    chat_handler: LlamaChatCompletionHandler | None
    draft_model: LlamaDraftModel | None
    tokenizer: BaseLlamaTokenizer | None
    type_k: int | None
    type_v: int | None
    spm_infill: bool


class ModelArguments(LlamaArguments, total=False):
    """What `edgemoe.Llama.from_pretrained` passes on to the constructor."""

    memory: int | str | None
    cache: int | float | str | None
    quality: str | float
    io_threads: int | None
    read_ahead: bool | Literal["always"]
    half_life: float
    trace: str | os.PathLike[str] | None
    n_ctx: int | None
    n_outputs_max: int | None
    n_seq_max: int
    n_threads: int | None
    n_threads_batch: int | None
    verbose: bool
