"""`Llama`: llama_cpp.Llama whose experts stay on disk, inside one memory budget."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import time
import weakref
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import llama_cpp
import numpy as np
from llama_cpp._internals import LlamaBatch
from llama_cpp._logger import set_verbose

from edgemoe import machine
from edgemoe.budget import DEFAULT_BATCH, FEW_OUTPUTS
from edgemoe.controls import Controls
from edgemoe.errors import EdgeMoEError
from edgemoe.experts.logits import LogitRows, log_softmax_by_row
from edgemoe.experts.state import load_state, save_state
from edgemoe.experts.stats import Clock
from edgemoe.experts.turns import Closed, Turns
from edgemoe.experts.worker import Worker
from edgemoe.hub import mark_used, resolve
from edgemoe.residence import HALF_LIFE, Residence, checked_threads

if TYPE_CHECKING:
    from llama_cpp import LlamaState
    from typing_extensions import Unpack

    from edgemoe.arguments import LlamaArguments

logger = logging.getLogger("edgemoe")

# llama_cpp sorts the vocabulary of each token as a list of (float, int) pairs: three objects, and four references.
_SORTED_TOKEN_BYTES = 256
_BATCHES = ("n_batch", "n_ubatch")  # the plan's unless they are asked for

# llama_cpp calls this as `Llama.logits_to_logprobs`, by the name of its own class, so that a subclass cannot override
# it; for everything but our rows it is what it was.
llama_cpp.Llama.logits_to_logprobs = staticmethod(  # type: ignore[method-assign]
    log_softmax_by_row(llama_cpp.Llama.logits_to_logprobs)
)


class Llama(Controls, llama_cpp.Llama):
    """A drop-in for `llama_cpp.Llama` that runs Mixture-of-Experts models bigger than memory.

    Args:
        model_path: a GGUF file, or the first shard of several; or the name of a model that was pulled.
        memory: budget of the whole process: bytes, "2GiB", "50%" of the machine, "auto" (what leaves the machine
            usable), or None for no limit.
        cache: bytes of experts to keep, or a share of them (0.25, "25%"), in place of what `memory` leaves.
        quality: "exact": every plane is used, and every result is the same as with everything in memory. Of a pack also
            "fixed:2", "fixed:3", "fixed:4": the planes up to this level; "high", "balanced", "fast", or a number:
            planes are waited for until the expected relative squared error of a layer is at most this.
        io_threads: threads that read from disk.
        read_ahead: read the experts that the next layer will probably use while this one computes, where trials say
            that it pays; "always" makes none.
        half_life: tokens after which a use of an expert counts half for keeping it; 0.01: the least recently used goes.
        trace: file to record routing to, for `tools/replay_trace.py`.
        n_ctx: context in tokens; None or 0 takes the trained one, or less where the budget asks for it.
        n_outputs_max: tokens of one batch whose logits can be had, 0 for all of them. By default all with `logits_all`,
            a draft model or embeddings, and else 64 where not all experts fit; more are computed in several batches.
        n_seq_max: sequences that share the context, n_ctx / n_seq_max tokens for each (see batching.Batch).
        **arguments: every other argument of llama_cpp.Llama.

    Raises:
        ModelError: the file is missing, damaged or of a kind that llama.cpp cannot run.
        ReadError: it cannot be read.
        BudgetError: the budget is too small; the message has the smallest one, and who needs what.
    """

    scores: LogitRows  # type: ignore[assignment]  # of the positions that somebody asked for; the parent's is an array

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        memory: int | str | None = "auto",
        cache: int | float | str | None = None,
        quality: str | float = "exact",
        io_threads: int | None = None,
        read_ahead: bool | Literal["always"] = True,
        half_life: float = HALF_LIFE,
        trace: str | os.PathLike[str] | None = None,
        n_ctx: int | None = None,
        n_outputs_max: int | None = None,
        n_seq_max: int = 1,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        verbose: bool = False,
        **arguments: Unpack[LlamaArguments],
    ) -> None:
        kwargs: dict[str, Any] = {**arguments}
        set_verbose(verbose)
        model_path = os.fspath(resolve(os.fspath(model_path)))
        self._options = dict(
            memory=memory, cache=cache, quality=quality, io_threads=io_threads, read_ahead=read_ahead, trace=trace
        ) | dict(
            half_life=half_life,
            n_outputs_max=n_outputs_max,
            n_seq_max=n_seq_max,
            **{name: kwargs[name] for name in _BATCHES if name in kwargs},
        )
        self.notes: list[str] = []
        self._turns = Turns()
        self._keep_rows = "all" if kwargs.pop("logits_all", False) else "newest"
        self._clock = Clock()
        self._joining: int | None = None  # the turn of a completion, while its generator runs
        self._most_outputs = 0
        self._most_rows = kwargs.get("n_batch", DEFAULT_BATCH)  # with logits, at once
        if self._keep_rows == "all" or kwargs.get("draft_model") or kwargs.get("embedding"):
            n_outputs_max = n_outputs_max or 0
        self._observing_last = False  # inputs of the last layer's experts are kept
        self._threads_asked = bool(n_threads and n_threads > 0)
        kwargs["n_threads"] = checked_threads("n_threads", n_threads, machine.processors())
        kwargs["n_threads_batch"] = checked_threads("n_threads_batch", n_threads_batch, kwargs["n_threads"])
        if kwargs.get("type_v") is not None and _quantized(kwargs["type_v"]) and not kwargs.get("flash_attn"):
            kwargs["flash_attn"] = True
            self._note("flash attention is on, because a quantized V cache needs it")
        self._residence = Residence(
            model_path,
            n_ctx=n_ctx,
            n_outputs_max=n_outputs_max,
            n_seq_max=n_seq_max,
            quality=quality,
            io_threads=io_threads,
            read_ahead=read_ahead,
            half_life=half_life,
            memory=memory,
            cache=cache,
            trace=trace,
            arguments=kwargs,
        )
        for note in self._residence.notes:
            self._note(note)
        kwargs |= self._residence.arguments
        try:
            self._load(model_path, verbose=verbose, **kwargs)
        except BaseException:
            self.close()
            raise
        mark_used(model_path)

    def _load(self, model_path: str, **kwargs: Any) -> None:
        with self._residence.loading() as failure:
            try:
                super().__init__(model_path, **kwargs)
            except (ValueError, RuntimeError) as error:
                raise failure(error) from error
            if kwargs.get("lora_path") and not self._lora_adapter:  # llama_cpp takes a null pointer for an adapter
                raise failure(ValueError(f"the adapter {kwargs['lora_path']} cannot be used"))
        self._logits_all = True  # rows are kept as they are asked for, so nothing is ruled out in advance
        self._take_batch()
        self._n_ctx = llama_cpp.llama_n_ctx_seq(self._ctx.ctx)  # of one sequence; n_ctx() is all of them
        self.input_ids = np.zeros(self._n_ctx, dtype=np.intc)  # llama.cpp rounds n_ctx up; the parent's array does not
        # Weak, so that dropping the last reference to the model frees it at once.
        newest, decode = weakref.WeakMethod(self._newest_logits), weakref.WeakMethod(self._decode)
        self.scores = LogitRows(self._n_vocab, lambda: (method := newest()) and method())
        context: Any = self._ctx
        context.decode = lambda batch: (method := decode()) and method(batch)
        self._worker = Worker(f"edgemoe-{os.path.basename(model_path)}")
        address = ctypes.cast(self._ctx.ctx, ctypes.c_void_p).value or 0
        adapt = 0 if self._threads_asked else self.n_threads
        self._residence.attach(address, max(self.n_threads, self.n_threads_batch), adapt=adapt)
        self._stack.callback(self._residence.detach, address)
        logger.debug("plan: %s", self._residence.plan)

    def _take_batch(self) -> None:
        """The context may take larger batches than the parent was told; ours are of one sequence a token."""
        self.n_batch = llama_cpp.llama_n_batch(self._ctx.ctx)
        self._most_rows = min(self._most_rows, self.context_params.n_outputs_max or self.n_batch)
        batch = LlamaBatch(n_tokens=self.n_batch, embd=0, n_seq_max=1, verbose=self.verbose)
        self._batch.close()
        self._batch = self._stack.enter_context(contextlib.closing(batch))

    # Running

    def eval(self, tokens: Sequence[int]) -> None:
        """Evaluates `tokens` after those already evaluated; see llama_cpp.Llama.eval."""
        with self._turn():
            self.scores.forget_from(self.n_tokens)
            self._ctx.kv_cache_seq_rm(-1, self.n_tokens, -1)
            step = self._rows_per_batch()
            for start in range(0, len(tokens), step):
                self._eval_batch(list(tokens[start : start + step]))

    @property
    def _every_row(self) -> bool:
        """Whether logits of every token are needed: they are asked for, drafts are checked against them, or inputs of
        the last layer's experts are observed (llama.cpp drops rows without output before these)."""
        return self._keep_rows == "all" or self.draft_model is not None or self._observing_last

    def _rows_per_batch(self) -> int:
        """Tokens evaluated at once: fewer where the logits of all of them would not fit into the budget."""
        if not self._every_row:
            return self.n_batch
        fits = self._residence.loans.can_lend(2 * self._most_rows * self._n_vocab * 4)
        return self._most_rows if fits else min(self._most_rows, FEW_OUTPUTS)

    def _eval_batch(self, batch: list[int]) -> None:
        n_past = self.n_tokens
        outputs = len(batch) if self._every_row else 1
        kept = {"all": len(batch), "generated": 1, "newest": 0}[self._keep_rows]
        self._most_outputs = max(self._most_outputs, outputs)  # llama.cpp's own buffer grows, and never shrinks
        self._residence.loans.lend("outputs", self._most_outputs * self._n_vocab * 4)
        self._residence.loans.lend("logits", self.scores.nbytes + kept * self._n_vocab * 4)
        self._batch.set_batch(batch=batch, n_past=n_past, logits_all=self._every_row)
        self._ctx.decode(self._batch)
        self.input_ids[n_past : n_past + len(batch)] = batch
        for i in range(len(batch) - kept, len(batch)):
            pointer = self._ctx.get_logits_ith(i if self._every_row else -1)
            self.scores.keep(n_past + i, np.ctypeslib.as_array(pointer, shape=(self._n_vocab,)).copy())
        self.n_tokens += len(batch)
        self._requires_eval = False

    def _newest_logits(self) -> tuple[int, Any] | None:
        if self._requires_eval or self.n_tokens == 0:
            return None
        with self._turns.using():
            pointer = self._ctx.get_logits_ith(-1)
            if not pointer:
                return None
            return self.n_tokens - 1, np.ctypeslib.as_array(pointer, shape=(self._n_vocab,)).copy()

    def generate(self, tokens: Sequence[int], *args: Any, **kwargs: Any) -> Generator[int, Sequence[int] | None, None]:
        """Yields tokens after the prompt `tokens`; see llama_cpp.Llama.generate. Other threads' requests wait."""
        joined = self._joining
        turn = self._begin() if joined is None else joined
        parent = None
        try:
            started = time.perf_counter()
            first = True
            if self._keep_rows == "generated" and (newest := self._newest_logits()):
                self.scores.keep(*newest)
            # A stopping criterion is given what llama_cpp takes for the newest row, whatever its index.
            self.scores.newest_for_any = kwargs.get("stopping_criteria") is not None or args[15:16] not in ((), (None,))
            parent = super().generate(tokens, *args, **kwargs)
            sent = None
            while True:
                try:
                    with self._turns.using():
                        self._turns.resume(turn)
                        token = parent.send(sent)
                        self._residence.check_cancelled()
                except StopIteration:
                    return
                if first:
                    self._clock.first_token = time.perf_counter() - started
                    first = False
                sent = yield token
        finally:
            self.scores.newest_for_any = False
            if parent is not None:
                parent.close()
            if joined is None:
                self._end(turn)

    def embed(self, *args: Any, **kwargs: Any) -> Any:
        """Embeddings of texts; see llama_cpp.Llama.embed."""
        with self._turn():
            return super().embed(*args, **kwargs)

    def _create_completion(self, *args: Any, **kwargs: Any) -> Any:
        return self._completion(self._asked_quality, *args, **kwargs)  # its body may run later, on any thread

    def _completion(self, quality: str | float | None, /, *args: Any, **kwargs: Any) -> Any:
        turn = self._begin(quality)
        before = self._keep_rows
        try:
            with self._turns.using():
                self._prepare_rows(logprobs=kwargs.get("logprobs") is not None, echo=bool(kwargs.get("echo")))
            body = super()._create_completion(*args, **kwargs)
            while True:
                try:
                    with self._turns.using():
                        self._turns.resume(turn)
                        self._joining = turn
                        chunk = next(body)
                except StopIteration:
                    return
                finally:
                    self._joining = None
                yield chunk
        finally:
            if self._turns.is_current(turn):
                self._keep_rows = before
                self._forget_rows()
            self._end(turn)

    def _prepare_rows(self, *, logprobs: bool, echo: bool) -> None:
        """Logits to keep for a completion: none, those of the generated tokens, or the prompt's too."""
        if self._keep_rows == "all":
            return
        self._keep_rows = "newest" if not logprobs else "all" if echo else "generated"
        self._residence.loans.lend("log probabilities", logprobs * self._n_vocab * _SORTED_TOKEN_BYTES)
        if self._keep_rows == "all":
            self.reset()  # the prompt's own logits are asked for: no part of it may come from the KV cache

    def _forget_rows(self) -> None:
        if self._keep_rows != "all":
            self.scores.forget_from(0)
            self._residence.loans.lend("logits", 0)
            self._residence.loans.lend("log probabilities", 0)

    def _decode(self, batch: Any) -> None:
        """llama_decode on the model's own thread; interrupts and cancellation leave the KV cache usable."""
        self._residence.check_cancelled()
        started = time.perf_counter()
        try:
            code = self._worker.run(lambda: self._residence.decode(self._ctx.ctx, batch.batch), self._residence.cancel)
        except BaseException:
            self._residence.clear_cancel()
            self._after_failure()
            raise
        if code != 0:
            self._after_failure()
            self._residence.raise_failure(code)
        self._residence.raise_kept_error()
        self._clock.add(batch.batch.n_tokens, time.perf_counter() - started, getattr(batch, "sequences", 1))

    def _after_failure(self) -> None:
        self._requires_eval = True
        if self._is_recurrent or self._is_hybrid:  # their state cannot be cut back to the tokens before the failure
            self.reset()

    def cancel(self) -> None:
        """Stops the running request from any thread: it raises `Cancelled`. Without one, nothing happens."""
        with contextlib.suppress(EdgeMoEError), self._turns.using():  # a closed model runs nothing
            if self._turns.active:
                self._residence.cancel()

    # State

    def save_state(self) -> LlamaState:
        """A copy of the context's state; its bytes come out of the expert cache for as long as it is kept."""
        with self._turn():
            return save_state(self, self._residence.loans)

    def load_state(self, state: LlamaState) -> None:
        """Restores what `save_state` returned."""
        with self._turn():
            load_state(self, state)

    def close(self) -> None:
        """Frees the model, its cache and its threads. Requests of other threads end with EdgeMoEError, and so does
        every use of the model from now on.

        Raises:
            EdgeMoEError: it was called by what the model is running, such as a stopping criterion.
        """
        if turns := self.__dict__.get("_turns"):
            with turns.closing(lambda: self._residence.cancel()):
                self._free()

    def _free(self) -> None:
        if worker := self.__dict__.pop("_worker", None):
            worker.close()
        if "_stack" in self.__dict__:
            super().close()
        if residence := self.__dict__.get("_residence"):
            residence.close()
        held: dict[str, Any] = {name: value for name in ("_model", "_ctx") if (value := self.__dict__.get(name))}
        if "_model" in held:
            held["_model"].model = held["_model"].vocab = Closed()  # tokenizers hold the model, too
        for name in held:
            setattr(self, name, Closed())

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in super().__getstate__().items() if name not in _BATCHES}
        return state | self._options | {"logits_all": self._keep_rows == "all"}

    def _note(self, note: str) -> None:
        self.notes.append(note)
        logger.info(note)


_GGML_TYPE_BF16 = 30  # llama_cpp does not name it


def _quantized(ggml_type: int) -> bool:
    return ggml_type not in (llama_cpp.GGML_TYPE_F32, llama_cpp.GGML_TYPE_F16, _GGML_TYPE_BF16)
