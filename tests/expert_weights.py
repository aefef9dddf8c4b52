"""Weights and importances that look like an expert's, and the types of source that are cut into slices."""

from __future__ import annotations

import numpy as np
from gguf import GGMLQuantizationType as Q

KINDS = {"q4_k": Q.Q4_K, "q5_k": Q.Q5_K, "q6_k": Q.Q6_K}


def weights_of(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Heavy-tailed weights whose rows differ in size."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.normal(0, 0.3, (rows, 1)))
    return (random.standard_t(6, (rows, columns)) * sizes * 0.03).astype(np.float32)


def importance_of(columns: int, seed: int = 1) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(0, 1, columns)).astype(np.float32)
