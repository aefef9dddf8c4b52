"""Memory that is used again: each page of fresh memory costs a fault."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import numpy.typing as npt


class Scratch(threading.local):
    """Arrays that each thread has for itself and fills again and again."""

    def __init__(self) -> None:
        self._arrays: dict[Any, npt.NDArray[np.uint8]] = {}

    def array(self, key: Any, size: int) -> npt.NDArray[np.uint8]:
        """uint8 [size] with anything in it, the same for the same key and size: what was given before is lost."""
        found = self._arrays.get(key)
        if found is None or found.size != size:
            found = self._arrays[key] = np.empty(size, np.uint8)
        return found


def forget(file: int, offset: int, length: int) -> None:
    """Gives the page cache's memory of these bytes, where they are on the disk, to what is read or written next.

    In a virtual machine, memory that was free for long is slow to get, and a file that is read and written once need
    not drive others out of the cache.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_DONTNEED)
