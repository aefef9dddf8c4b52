"""The factor of an inverse Hessian: what it is, and that the number of threads changes no bit of it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from edgemoe.packs.factor import inverse_factor

HASH = """
import hashlib, numpy, sys
from edgemoe.packs.factor import inverse_factor
x = numpy.random.default_rng(0).standard_normal((200, int(sys.argv[1])))
print(hashlib.sha256(inverse_factor(x.T @ x + numpy.eye(x.shape[1])).tobytes()).hexdigest())
"""


@pytest.mark.parametrize("size", [1, 7, 32, 33, 96, 300])
def test_it_is_a_factor_of_the_inverse(size: int) -> None:
    x = np.random.default_rng(size).standard_normal((size, size))
    matrix = x.T @ x + np.eye(size)
    factor = inverse_factor(matrix)
    assert np.array_equal(factor, np.triu(factor))
    assert np.allclose(factor.T @ factor @ matrix, np.eye(size), atol=1e-9)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), -np.eye(40), np.full((2, 2), np.nan)])
def test_what_is_not_positive_has_none(matrix: np.ndarray) -> None:
    with pytest.raises(np.linalg.LinAlgError):
        inverse_factor(matrix)


@pytest.mark.parametrize("size", ["288", "2048"])
def test_the_number_of_threads_changes_no_bit(size: str) -> None:
    found = set()
    for threads in ("1", "2", "4"):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, "-c", HASH, size]
        found.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(found) == 1
