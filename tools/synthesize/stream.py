"""A GGUF file written tensor by tensor, in chunks, under a temporary name until it is complete."""

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from .quantize import row_bytes


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor to be written: `shape` in numpy's order, `chunks` its bytes (uint8), made when needed."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    chunks: Callable[[], Iterable[np.ndarray]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape[:-1]) * row_bytes(self.type, self.shape[-1])


def write_gguf(
    path: Path,
    architecture: str,
    add_metadata: Callable[[GGUFWriter], None],
    tensors: list[PlannedTensor],
    report: Callable[[str, int], None],
) -> None:
    """Write `path`; `report` gets a tensor's name and the bytes just written. Nothing is left on failure."""
    partial = path.with_name(path.name + ".partial")
    writer = GGUFWriter(partial, architecture)
    add_metadata(writer)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_tensors(writer, tensors, report)
        writer.close()
        os.replace(partial, path)
    except BaseException:
        writer.close()
        partial.unlink(missing_ok=True)
        raise


def _write_tensors(writer: GGUFWriter, tensors: list[PlannedTensor], report: Callable[[str, int], None]) -> None:
    assert writer.fout is not None
    file = writer.fout[0]
    writer.write_padding(file, file.tell())
    for tensor in tensors:
        written = 0
        for chunk in tensor.chunks():
            file.write(chunk.data)
            written += chunk.nbytes
            report(tensor.name, chunk.nbytes)
        if written != tensor.nbytes:
            raise RuntimeError(f"{tensor.name}: {written} bytes were made where {tensor.nbytes} are due")
        writer.write_padding(file, written)
