"""How good a router is on prompts that it has not seen: labelled rows, GQR-Bench, and who should answer.

GQR (arXiv 2505.14524) is the harmonic mean of two accuracies: prompts of law, finance and healthcare get their domain,
and prompts of seven other data sets get none of the three. Who should answer is measured in local_or_cloud.py.
"""

from __future__ import annotations

import importlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgemoe.errors import EdgeMoEError
from edgemoe.routing.calibration import calibration_error
from edgemoe.routing.heads import NONE, YES, Doubles
from edgemoe.routing.local_or_cloud import Answered, Values, auc
from edgemoe.routing.router import UNSAFE, Router
from edgemoe.routing.rows import TEST, Row

EXPERTS = ("law", "finance", "healthcare")
ROUTING_SETS = ("llmrouter_dc", "routellm_gsm8k", "routellm_mmlu", "routerbench_arc_challenge", "routerbench_mbpp")


def evaluate_rows(router: Router, rows: Sequence[Row]) -> Values:
    """For each head its accuracy and calibration on rows of the split test, or on all if none is.

    Raises EdgeMoEError for labels that a head does not have.
    """
    tested = _tested(rows)
    found: Values = {}
    for head in router.labels:
        own = [(row, row.labels[head]) for row in tested if head in row.labels]
        if not own:
            continue
        known = (*router.labels[head], NONE)
        if unknown := sorted({label for _, label in own if isinstance(label, str) and label not in known}):
            raise EdgeMoEError(f"the head {head!r} does not know {', '.join(unknown)}: it has {', '.join(known)}")
        seen = [router.classify(row.text) for row, _ in own]
        if all(isinstance(label, str) for _, label in own):
            choices = [c.choices[head] or NONE for c in seen]
            right = np.array([choice == label for choice, (_, label) in zip(choices, own, strict=True)])
            by_label: dict[str, list[bool]] = defaultdict(list)
            for ok, (_, label) in zip(right, own, strict=True):
                by_label[str(label)].append(bool(ok))
            confidence = np.array([c.scores[head].get(ch, 0.0) for c, ch in zip(seen, choices, strict=True)])
            found[head] = {
                "rows": len(own),
                "accuracy": float(right.mean()),
                "recall": {label: float(np.mean(oks)) for label, oks in sorted(by_label.items())},
                "macro recall": float(np.mean([np.mean(oks) for oks in by_label.values()])),
                "calibration error": calibration_error(confidence, right),
            }
        else:
            scores = np.array([c.scores[head][YES] for c in seen])
            yes = np.array([float(label) > 0.5 for _, label in own])
            found[head] = _binary(scores, yes) | {"rows": len(own)}
    return found


def _tested(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.split == TEST] or list(rows)


def answered_rows(rows: Sequence[Row]) -> list[Answered]:
    """Those rows of the split test, or of all if none is, that two models have answered; each source is a set."""
    return [
        Answered(row.text, row.weak, row.strong, row.source)
        for row in _tested(rows)
        if row.weak is not None and row.strong is not None
    ]


def _binary(scores: Doubles, yes: np.ndarray[Any, Any]) -> Values:
    return {
        "AUC": auc(scores, yes),
        "calibration error": calibration_error(scores, yes),
        "share of yes": float(yes.mean()),
    }


# Benchmarks


def evaluate_benchmarks(router: Router, folder: Path) -> Values:
    """GQR-Bench and abuse, on the test rows of the collected data in `folder`."""
    found: Values = {"gqr": gqr(router, folder)}
    if UNSAFE in router.labels:
        bad = [r["text"] for r in _tests(folder, "unsafe")]
        good = [r["text"] for name in ("safe_social", "id", "background") for r in _tests(folder, name)]
        scores = np.array([router.classify(text).unsafe_probability or 0.0 for text in (*bad, *good)])
        found["unsafe"] = _binary(scores, np.arange(len(scores)) < len(bad)) | {"rows": len(scores)}
    return found


def gqr(router: Router, folder: Path) -> Values:
    """Accuracies on the official out-of-distribution sets, the official sample and the collected ID test rows."""
    out = _by("source", ((r, _expert(router, r["text"]) is None) for r in _read(folder, "gqr_ood_official")))
    rows = _tests(folder, "id")
    sample, own = (
        _by("label", ((r, _expert(router, r["text"]) == r["label"]) for r in chosen))
        for chosen in (_read(folder, "gqr_id_official_sample"), rows)
    )
    ood, official, collected = (float(np.mean(list(v.values()))) for v in (out, sample, own))
    return {
        "ood": ood,
        "ood sets": out,
        "id official": official,
        "id official labels": sample,
        "id own": collected,
        "id own labels": own,
        "gqr": _harmonic(official, ood),
        "gqr own": _harmonic(collected, ood),
        "calibration error": _confidence_error(router, rows),
    }


def _expert(router: Router, text: str) -> str | None:
    domain = router.classify(text).domain
    return domain if domain in EXPERTS else None


def _confidence_error(router: Router, rows: Sequence[Values]) -> float:
    scores = [router.classify(r["text"]).domain_scores for r in rows]
    best = [max(s, key=s.__getitem__) for s in scores]
    confidence = np.array([s[b] for s, b in zip(scores, best, strict=True)])
    return calibration_error(confidence, np.array([b == r["label"] for b, r in zip(best, rows, strict=True)]))


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def _by(key: str, results: Iterator[tuple[Values, bool]]) -> dict[str, float]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for row, right in results:
        groups[row[key]].append(right)
    return {name: float(np.mean(values)) for name, values in groups.items()}


def answered(folder: Path) -> list[Answered]:
    """The questions of five sets that a weak and a strong model have answered."""
    rows: dict[str, list[Answered]] = {name: [] for name in ROUTING_SETS}
    for file in ("routing_routellm", "routing_llmrouter", "routing_routerbench"):
        for row in _tests(folder, file):
            name = row["source"].split("/")[0]
            if name in rows:
                rows[name].append(Answered(row["text"], row["weak"], row["strong"], name))
    return [prompt for found in rows.values() for prompt in found]


def _tests(folder: Path, name: str) -> list[Values]:
    return [row for row in _read(folder, name) if row["split"] == TEST]


def _read(folder: Path, name: str) -> list[Values]:
    path = folder / f"{name}.jsonl"
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    except (OSError, ValueError) as error:
        raise EdgeMoEError(f"{path} cannot be read: {error}; give the folder of the collected data") from error


# Speed


def measure(path: Path, words: int = 200, runs: int = 2000) -> Values:
    """Size, load time and time of one prompt of so many words, in milliseconds."""
    importlib.import_module("onnxruntime")  # once for a process, so that it is not part of the load

    loads = []
    for _ in range(5):
        begin = time.perf_counter()
        router = Router(path)
        loads.append(time.perf_counter() - begin)
    pool = _TEXT.split()
    prompts = [" ".join(pool[(i * 7 + k * (i + 3)) % len(pool)] for k in range(words)) for i in range(40)]
    times = []
    for i in range(runs):
        begin = time.perf_counter()
        router.classify(prompts[i % len(prompts)])
        times.append(time.perf_counter() - begin)
    p50, p95 = np.quantile(times, [0.5, 0.95]) * 1e3
    return {"bytes": path.stat().st_size, "load ms": min(loads) * 1e3, "p50 ms": float(p50), "p95 ms": float(p95)}


_TEXT = """
my landlord wants to keep the whole deposit because of a stain that was there when we moved in and now the lawyer says
that interest on savings accounts should be declared with other income while doctors recommend another treatment for
chronic pain before surgery, please explain which function returns the largest prime number below n
"""
