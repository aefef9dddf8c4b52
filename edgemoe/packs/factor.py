"""The factor of an inverse Hessian that error feedback needs, to the same bits whatever the number of threads.

LAPACK's own factorisations cut a matrix according to the number of threads, and each cut rounds otherwise. Products do
not, as long as the inner dimension is short and the others are multiples of what a kernel takes at a time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.double]

_LEAF = 32
_INNER = 128


def inverse_factor(matrix: Doubles) -> Doubles:
    """Upper triangular U with U^T U the inverse of `matrix`. Raises LinAlgError when that is not positive."""
    # With P the reversal of rows and columns and P M P = L L^T, M^-1 = U^T U for U = P L^-1 P.
    return _inverse_cholesky(matrix[::-1, ::-1])[::-1, ::-1]


def _inverse_cholesky(matrix: Doubles) -> Doubles:
    """L^-1 of `matrix` = L L^T, by halves: [[A, B^T], [B, C]] has L = [[F, 0], [B F^-T, G]], G G^T = C - B A^-1 B^T."""
    size = len(matrix)
    if size <= _LEAF:
        return _small(matrix)
    half = -(-size // (2 * _LEAF)) * _LEAF
    first = _inverse_cholesky(matrix[:half, :half])
    below = _product(matrix[half:, :half], first.T)
    last = _inverse_cholesky(matrix[half:, half:] - _product(below, below.T))
    result = np.zeros_like(matrix)
    result[:half, :half] = first
    result[half:, half:] = last
    result[half:, :half] = -_product(last, _product(below, first))
    return result


def _product(a: Doubles, b: Doubles) -> Doubles:
    total = a[:, :_INNER] @ b[:_INNER]
    for start in range(_INNER, len(b), _INNER):
        total += a[:, start : start + _INNER] @ b[start : start + _INNER]
    return total


def _small(matrix: Doubles) -> Doubles:
    """Column by column: eliminates below the diagonal, and does the same to what begins as the identity."""
    left = matrix.copy()
    result = np.eye(len(matrix))
    for column in range(len(matrix)):
        pivot = left[column, column]
        if not pivot > 0:
            raise np.linalg.LinAlgError("the matrix is not positive")
        result[column] /= np.sqrt(pivot)
        below = left[column + 1 :, column] / np.sqrt(pivot)
        result[column + 1 :] -= np.outer(below, result[column])
        left[column + 1 :, column + 1 :] -= np.outer(below, below)
    return result
