"""Measures what this machine can do, with ggml's own kernels."""

from __future__ import annotations

import ctypes
import time
from typing import Any

from edgemoe import machine
from edgemoe.errors import EdgeMoEError
from edgemoe.experts import library
from edgemoe.planning.machines import Machine

_SECONDS, _LONGEST = 0.4, 2.0
_ROUNDS = 500
"""Rounds of each rate, in _SECONDS at the least and _LONGEST at the most. A round is over before other programs get a
turn, so the fastest tenth of them shows what the machine does when it is left alone."""
_FASTEST = 0.1
_PRODUCTS_SHARE = 0.65
"""Of a prompt's time, what products with full matrices take (docs/plan.md); the rest is attention and bookkeeping."""
_COLUMNS = 2048
_BATCH = 64
_STEPS = 128
"""Of a round of the smallest products, 0.1 ms: in rounds of 1,000, beside programs that compute on all cores, every one
met a thread that had lost its turn, and a step seemed to take 30 ms where it takes 0.001."""
_F32, _Q8_0, _Q4_K = 0, 8, 12  # ggml's numbers of these types
_MATRIX = 1 << 20  # bytes of one matrix, like an expert's
_STREAMED = 256 << 20  # more than caches hold
_TENSOR = 512  # bytes that ggml keeps for a tensor, at the most
_GRAPH = 1 << 20  # and for a graph of 2,048 tensors


def measure_rates(threads: int | None = None) -> Machine:
    """The rates of this machine on `threads` threads (default: as many as models use); its disk's is left at 0.

    Takes about two seconds.

    Raises:
        EdgeMoEError: when llama.cpp's library does not load, or there is no memory to measure with.
    """
    threads = threads or machine.processors()
    matrices = max(1, min(_STREAMED, machine.available_memory() // 8) // _MATRIX)
    with _Products(_Q8_0, _MATRIX, threads, matrices=matrices) as products:
        memory_bandwidth = products.bytes / products.seconds()
    with _Products(_Q4_K, _MATRIX, threads, matrices=matrices) as products:
        dot_rate = products.multiplications / products.seconds()
    with _Products(_Q4_K, _MATRIX, threads, matrices=4, batch=_BATCH) as products:
        prompt_rate = _PRODUCTS_SHARE * products.multiplications / products.seconds()
    with _Products(_F32, 0, threads, repeat=_STEPS) as products:
        step = products.seconds() / _STEPS
    return Machine(
        name="this",
        description=f"this machine, {threads} cores, {machine.processor_name()}",
        memory_bytes=machine.total_memory(),
        memory_bandwidth=memory_bandwidth,
        dot_rate=dot_rate,
        prompt_rate=prompt_rate,
        disk_bandwidth=0.0,
        step=step,
    )


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class _Products:
    """Rounds in which ggml multiplies a matrix of about `size` bytes by `batch` vectors, `repeat` times over.

    Of several `matrices`, each round takes the next one. `bytes` and `multiplications` are those of a round.
    """

    def __init__(
        self, kind: int, size: int, threads: int, *, matrices: int = 1, batch: int = 1, repeat: int = 1
    ) -> None:
        library.load()
        import llama_cpp.llama_cpp as bindings

        self._lib = bindings._lib
        row = self._call("ggml_row_size", ctypes.c_size_t, ctypes.c_int(kind), ctypes.c_int64(_COLUMNS))
        rows = max(1, size // row)
        self.bytes = rows * row * repeat
        self.multiplications = rows * _COLUMNS * batch * repeat
        results = (4 * rows * batch + _TENSOR) * repeat
        memory = matrices * (rows * row + _TENSOR + results + _GRAPH) + 4 * _COLUMNS * batch + _TENSOR
        self._context = self._pointer("ggml_init", _InitParams(memory, None, False))
        self._backend = self._pointer("ggml_backend_cpu_init")
        if not self._context or not self._backend:
            raise EdgeMoEError("there is no memory to measure this machine with: close other programs")
        self._call("ggml_backend_cpu_set_n_threads", None, self._backend, ctypes.c_int(threads))
        vectors = self._zeros(_F32, batch)
        self._graphs = [self._graph(self._zeros(kind, rows), vectors, repeat) for _ in range(matrices)]

    def seconds(self) -> float:
        """Of a round, while nothing else disturbs it."""
        times: list[float] = []
        began = started = time.perf_counter()
        while started - began < _SECONDS or (len(times) < _ROUNDS and started - began < _LONGEST):
            for graph in self._graphs:
                self._call("ggml_backend_graph_compute", ctypes.c_int, self._backend, graph)
                ended = time.perf_counter()
                times.append(ended - started)
                started = ended
        return sorted(times)[int(_FASTEST * len(times))]

    def _graph(self, weights: ctypes.c_void_p, vectors: ctypes.c_void_p, repeat: int) -> ctypes.c_void_p:
        graph = self._pointer("ggml_new_graph", self._context)
        for _ in range(repeat):
            product = self._pointer("ggml_mul_mat", self._context, weights, vectors)
            self._call("ggml_build_forward_expand", None, graph, product)
        return graph

    def _zeros(self, kind: int, rows: int) -> ctypes.c_void_p:
        shape = ctypes.c_int64(_COLUMNS), ctypes.c_int64(rows)
        tensor = self._pointer("ggml_new_tensor_2d", self._context, ctypes.c_int(kind), *shape)
        return self._pointer("ggml_set_zero", tensor)

    def _pointer(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._call(name, ctypes.c_void_p, *arguments))

    def _call(self, name: str, result: Any, *arguments: Any) -> Any:
        function = self._lib[name]  # an object of our own: attributes of the bindings' stay as they are
        function.restype = result
        return function(*arguments)

    def __enter__(self) -> _Products:
        return self

    def __exit__(self, *_: object) -> None:
        self._call("ggml_backend_free", None, self._backend)
        self._call("ggml_free", None, self._context)
