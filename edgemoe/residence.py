"""One model in memory: the plan for its budget, its expert engine, and the cache that the budget leaves room for."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import llama_cpp.llama_cpp as bindings

from edgemoe import _native, machine, running
from edgemoe.budget import DEFAULT_BATCH, FEW_OUTPUTS, Plan, Planners, Request, make_plan, resolve_cache, resolve_memory
from edgemoe.errors import BudgetError, Cancelled, EdgeMoEError, ModelError, ReadError
from edgemoe.experts import library
from edgemoe.experts.loading import collected_log, load_model
from edgemoe.experts.planning import ContextShape
from edgemoe.experts.quality import QualityControl, parse_quality
from edgemoe.experts.reads import choose_reads, measure_disk
from edgemoe.experts.stats import Clock, Stats
from edgemoe.experts.trace import TraceWriter
from edgemoe.experts.turns import CLOSED
from edgemoe.loans import Loans
from edgemoe.pace import Pace
from edgemoe.packs.adapter import check_adapter
from edgemoe.packs.summary import open_model, summarize
from edgemoe.packs.verify import check_to_run
from edgemoe.share import News, Share, promised_memory
from edgemoe.sizes import format_size

logger = logging.getLogger("edgemoe")

DEFAULT_IO_THREADS = 8
READ_PIECE = 256 * 1024
"""Bytes of one read: several threads share a matrix, and an NVMe drive reaches its speed."""
HALF_LIFE = 256.0
"""Tokens after which a use of an expert counts half for keeping it."""
SHORTEST_HALF_LIFE = 0.01
"""Of the tokens that used an expert only the last one counts: the least recently used is evicted, of all layers."""
_DENSE_CTX = 4096
_MOST_THREADS = 512  # ggml's GGML_MAX_N_THREADS
_CELLS = 256
"""llama.cpp attends to so many tokens of the context at a time."""
_WORTH_TIMING = 256 << 20
"""Bytes of experts from which on it is worth 20 MB of reads to know the disk."""


class Residence:
    """Everything of a `Llama` that llama_cpp.Llama does not know. `arguments` are what the parent must be given."""

    def __init__(
        self,
        path: str,
        *,
        n_ctx: int | None,
        n_seq_max: int,
        n_outputs_max: int | None,
        memory: int | str | None,
        cache: int | float | str | None,
        quality: str | float,
        io_threads: int | None,
        read_ahead: bool | Literal["always"],
        half_life: float,
        trace: str | os.PathLike[str] | None,
        arguments: dict[str, Any],
    ) -> None:
        if io_threads is not None and not 1 <= io_threads <= 64:
            raise EdgeMoEError(f"io_threads={io_threads} is out of range: use 1 to 64")
        if not SHORTEST_HALF_LIFE <= half_life < math.inf:
            raise EdgeMoEError(f"half_life={half_life} is out of range: use {SHORTEST_HALF_LIFE} tokens or more")
        if read_ahead not in (True, False, "always"):
            raise EdgeMoEError(f"read_ahead={read_ahead!r} is unknown: use True, False or 'always'")
        if n_outputs_max is not None and n_outputs_max < 0:
            raise EdgeMoEError(f"n_outputs_max={n_outputs_max} is no number of tokens: use 1 or more, or 0 for all")
        self._n_outputs_max = n_outputs_max
        self._io_threads = io_threads
        self._n_seq_max = _checked_sequences(n_seq_max, arguments)
        self.notes: list[str] = []
        self.plan: Plan | None = None
        self._file = open_model(path)
        self._summary = summarize(path, self._file)
        asked = parse_quality(quality, self._file.levels)
        self._top_level = asked.top_level
        self._memory_wanted, self._cache_wanted = memory, cache
        lora = arguments.get("lora_path")
        self._adapters = check_adapter(lora, self._file) if lora else 0
        self.share: Share | None = None
        self._pace: Pace | None = None
        self._news: News | None = None
        self._trace: TraceWriter | None = None
        self._budget = resolve_memory(memory)
        if self._summary.experts:
            self.plan = self._make_plan(n_ctx, arguments)
            shape = self.plan.shape
            # llama_cpp.Llama allocates logits for n_batch tokens, so that it is told of no more than its default.
            self.arguments = {"n_ctx": shape.n_ctx, "n_batch": min(shape.n_batch, DEFAULT_BATCH)}
            self._check_cache(self.plan)
            self.notes += self.plan.notes(self._summary, n_ctx, arguments.get("n_ubatch", DEFAULT_BATCH))
            if crowding := running.crowding(self._budget, self._summary.path.name):
                self.notes.append(crowding)
            if trace is not None:
                self._trace = TraceWriter(Path(trace))
        else:
            name = self._summary.path.name
            self.notes.append(
                f"{name} has no experts: llama.cpp runs it as it is, and memory=, cache= and trace= do not apply"
            )
            self.arguments = {"n_ctx": n_ctx or min(self._summary.n_ctx_train or 512, _DENSE_CTX)}
        self._native = _native.Engine(
            self._file,
            io_threads=io_threads or DEFAULT_IO_THREADS,
            embedding_on_disk=self.plan is not None and self.plan.embedding_on_disk,
            top_level=asked.top_level,
            target=asked.target,
            read_ahead=bool(read_ahead),
            try_ahead=read_ahead != "always",
            piece=READ_PIECE,
            policy="decayed",
            half_life=half_life,
        )
        if self._file.levels:
            check_to_run(path)
        self.loans = Loans(self._engine, self.plan)
        self.quality = QualityControl(self._engine, self._file.levels, quality)

    def _check_cache(self, plan: Plan) -> None:
        if self._cache_wanted is None:
            return
        wanted = resolve_cache(self._cache_wanted, plan.full_cache)
        if wanted < plan.minimum_cache:
            raise BudgetError(
                f"cache={self._cache_wanted!r} is {format_size(wanted)}, but one layer's working set needs "
                f"{format_size(plan.minimum_cache)}"
            )

    def _make_plan(self, n_ctx: int | None, arguments: dict[str, Any]) -> Plan:
        embeddings = bool(arguments.get("embedding", False))
        n_batch = arguments.get("n_batch", DEFAULT_BATCH if embeddings else None)
        shape = ContextShape(
            n_ctx=0,
            n_batch=0,
            n_ubatch=0,
            type_k=arguments.get("type_k"),
            type_v=arguments.get("type_v"),
            flash_attn=bool(arguments.get("flash_attn", False)),
            n_seq_max=min(n_batch, bindings.llama_max_parallel_sequences()) if embeddings else self._n_seq_max,
            embeddings=embeddings,
            swa_full=arguments.get("swa_full"),
            offload_kqv=arguments.get("offload_kqv", True),
        )
        request = Request(
            n_ctx=n_ctx or None,
            n_batch=n_batch,
            n_ubatch=arguments.get("n_ubatch"),
            shape=shape,
            budget=self._budget,
            adapters=self._adapters,
            cache=self._cache_wanted,
            n_outputs_max=FEW_OUTPUTS if self._n_outputs_max is None else self._n_outputs_max,
        )
        baseline = machine.rss() + promised_memory()
        gpu_layers, overrides = arguments.get("n_gpu_layers", 0), arguments.get("kv_overrides")
        with Planners(self._file, gpu_layers, overrides, self._top_level) as planners:
            return make_plan(self._summary, planners, request, baseline=baseline)

    # Loading

    def _context_settings(self) -> dict[str, int]:
        """What llama_cpp.Llama has no arguments for."""
        sequences = {"n_seq_max": self._n_seq_max} if self._n_seq_max > 1 else {}
        if self.plan is None:
            return sequences
        shape = self.plan.shape
        return sequences | {name: getattr(shape, name) for name in ("n_batch", "n_ubatch", "n_outputs_max")}

    @contextmanager
    def loading(self) -> Iterator[Callable[[Exception], EdgeMoEError]]:
        """Model loads of this thread show llama.cpp the stream; yields what turns its refusal into our error."""
        hook = self._load if self._summary.experts else None
        with collected_log() as log, library.model_load(hook, **self._context_settings()):

            def failure(error: Exception) -> EdgeMoEError:
                self.raise_kept_error()
                if reason := self._engine.load_error():
                    return ReadError(reason)
                reason = log.errors() or str(error)
                return ModelError(f"llama.cpp cannot run {self._summary.path}: {reason}")

            yield failure

    def _load(self, params: Any) -> Any:
        return load_model(self._engine, params)

    def raise_kept_error(self) -> None:
        """Raises what an operation of the backend kept for this thread, if there is anything."""
        self._engine.raise_error()

    def attach(self, context: int, threads: int, *, adapt: int = 0) -> None:
        """Shares the threads with the context and sizes the cache from what is left of the budget now.

        `adapt` are the threads that decode, if their number may change.
        """
        self._pace = Pace(adapt) if adapt > 1 else None
        self._engine.attach(context, threads)
        machine.return_free_memory()
        if self.plan is not None:
            self._adapt_reads()
            name, used = self._summary.path.name, self._summary.experts_used
            self.share = Share(self._engine, self.plan, name, used, self.loans)
            self.share.start(self._budget, self._memory_wanted, self._cache_wanted)
            if self._trace is not None:
                self._trace.begin(self._summary.name, self._engine.groups())
                self._engine.record_trace(True)
        self._news = News(self._engine, self.share, self._summary.path.name, self._summary.paths)

    def _adapt_reads(self) -> None:
        """To the disk, where a large model will go on reading from it and nobody has said how many threads read."""
        streams = self._budget is not None or self._cache_wanted is not None
        if not streams or self._io_threads or self._summary.expert_bytes < _WORTH_TIMING:
            return
        reads = choose_reads(measure_disk(self._summary.paths[-1], DEFAULT_IO_THREADS), DEFAULT_IO_THREADS)
        logger.info("reads of up to %s, %d at a time", format_size(reads.together), reads.threads)
        self._engine.adapt_reads(reads.threads, reads.together)

    def tell(self) -> None:
        """Tells other processes what has changed, between requests."""
        if news := self._news:
            news.tell()

    def set_memory(self, memory: int | str | None) -> None:
        """Changes the budget; on the model's own thread, between batches."""
        if self.share is None:
            raise BudgetError(f"{self._summary.path.name} has no experts, so its memory cannot be changed")
        self.share.set_memory(memory)
        if self._news:
            self._news.tell(at_once=True)

    # Computing

    def decode(self, context: Any, batch: Any) -> int:
        """llama_decode; called on the model's own thread."""
        with contextlib.suppress(EdgeMoEError):
            self._engine.raise_error()  # of an earlier operation that nobody asked about
        if self.share is not None:
            self.share.follow()
        self.loans.make_room_for(batch.n_tokens, self._attended(batch))
        self._engine.forget_compute_buffer()
        waited, began = self._waited(), time.perf_counter()
        code = bindings.llama_decode(context, batch)
        if self._pace is not None and code == 0 and batch.n_tokens == 1:
            self._follow_pace(context, time.perf_counter() - began - (self._waited() - waited))
        if code != 0:
            self._engine.forget_compute_buffer()
        if self._trace is not None:
            self._trace.write(self._engine.take_trace())
        return code

    def _attended(self, batch: Any) -> int | None:
        """Tokens of the context after the batch, as llama.cpp rounds them; None where sequences share the context."""
        if self._n_seq_max > 1 or not batch.pos or not batch.n_tokens:
            return None
        return (int(batch.pos[batch.n_tokens - 1]) // _CELLS + 1) * _CELLS

    def _waited(self) -> float:
        """Seconds so far that computing has waited for the disk."""
        return float(self._engine.stats()["io_wait"]) if self._pace is not None else 0.0

    def _follow_pace(self, context: Any, seconds: float) -> None:
        """Fewer threads decode where the machine has slowed down and fewer are faster; prompts keep theirs."""
        assert self._pace is not None
        before = self._pace.threads
        if self._pace.told(seconds) != before:
            logger.debug("%d threads decode, in place of %d", self._pace.threads, before)
            bindings.llama_set_n_threads(context, self._pace.threads, bindings.llama_n_threads_batch(context))

    def cancel(self) -> None:
        self._engine.cancel()

    def clear_cancel(self) -> None:
        self._engine.clear_cancel()

    def check_cancelled(self) -> None:
        if self._engine.cancelled:
            self._engine.clear_cancel()
            raise Cancelled("the request was cancelled")

    def raise_failure(self, code: int) -> None:
        """Raises what lies behind a llama_decode that returned `code`."""
        self._engine.raise_error()
        self.check_cancelled()
        if code == 1:
            raise EdgeMoEError("the context is full: use a larger n_ctx, or shorten the prompt")
        raise EdgeMoEError(f"llama.cpp could not compute this batch (llama_decode returned {code})")

    @property
    def group_names(self) -> list[str]:
        return [name for name, _, _ in self._engine.groups()]

    def set_levels(self, group: str, levels: Sequence[int]) -> None:
        names = self.group_names
        if group not in names:
            raise EdgeMoEError(f"{group!r} is no group of experts of this model; there are {', '.join(names)}")
        self.quality.set_levels(names.index(group), levels)

    def resident_bits(self) -> dict[str, list[float]]:
        """By group, bits per weight of each expert that are in memory; groups that llama.cpp left out have none."""
        engine = self._engine
        names = [name for name, _, _ in engine.groups()]
        bits = dict(zip(names, engine.resident_bits(), strict=True))
        return {group: experts for group, experts in bits.items() if experts}

    def observe(self, groups: Sequence[int]) -> None:
        self._engine.observe(list(groups))

    def take_inputs(self) -> list[tuple[list[str], int, Any]]:
        return self._engine.take_inputs()

    def take_weights(self) -> list[tuple[int, list[float]]]:
        return [(expert, squares) for _, expert, squares in self._engine.take_weights()]

    def stats(self, clock: Clock) -> Stats:
        native = self._engine.stats()
        return Stats(
            prompt_tokens=clock.prompt_tokens,
            decode_tokens=clock.decode_tokens,
            prompt_seconds=clock.prompt_seconds,
            decode_seconds=clock.decode_seconds,
            time_to_first_token=clock.first_token,
            hits=native["hits"],
            misses=native["misses"],
            bytes_read=native["bytes_read"],
            used_bits=native["used_bits"],
            used_weights=native["used_weights"],
            io_wait=native["io_wait"],
            compute_time=max(0.0, native["expert_time"] - native["io_wait"]),
            cache_bytes=native["cache_bytes"],
            resident_bytes=native["resident_bytes"],
            rss_bytes=machine.rss(),
            peak_bytes=machine.peak_rss(),
            budget_bytes=self.share.budget if self.share else self._budget,
            budget_changes=self.share.changes if self.share else 0,
        )

    @property
    def _engine(self) -> Any:
        """The engine, also for what other threads ask while this one closes the model."""
        engine = self.__dict__.get("_native")
        if engine is None:
            raise EdgeMoEError(CLOSED)
        return engine

    def detach(self, context: int) -> None:
        self._engine.detach(context)

    def close(self) -> None:
        if news := self.__dict__.get("_news"):
            news.end()
            self._news = None
        if share := self.__dict__.get("share"):
            share.end()
        if self._trace is not None:
            self._trace.close()
            self._trace = None
        for holder in ("loans", "quality"):
            if held := self.__dict__.get(holder):
                held.end()
        if self.__dict__.pop("_native", None) is not None:  # when a program ends, a closed model is closed once more
            machine.return_free_memory()


def checked_threads(name: str, asked: int | None, default: int) -> int:
    """As many as were asked for; `default` for None and less than one.

    Raises:
        EdgeMoEError: more than ggml has room for.
    """
    if asked is not None and asked > _MOST_THREADS:
        raise EdgeMoEError(f"{name}={asked} is too many: use 1 to {_MOST_THREADS}, best one for each core")
    return asked if asked and asked > 0 else default


def _checked_sequences(n_seq_max: int, arguments: dict[str, Any]) -> int:
    most = min(bindings.llama_max_parallel_sequences(), arguments.get("n_batch", DEFAULT_BATCH))
    if not 1 <= n_seq_max <= most:
        raise EdgeMoEError(f"n_seq_max={n_seq_max} is out of range: use 1 to {most}, and at most n_batch")
    if n_seq_max > 1 and arguments.get("embedding"):
        raise EdgeMoEError(f"n_seq_max={n_seq_max} and embedding=True exclude each other: use one model for each")
    return n_seq_max
