"""Prometheus's text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, object], float]
"""Labels and a value."""


def family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    """The lines of a "counter" or "gauge" that `text` explains; nothing where there are no samples."""
    lines = [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return _head(name, kind, text) + "\n".join(lines) + "\n" if lines else ""


def one(name: str, kind: str, text: str, value: float) -> str:
    """A family of one sample without labels."""
    return family(name, kind, text, [({}, value)])


def summary(name: str, text: str, recent: Sequence[float], total: float, count: int) -> str:
    """The medians and 95th percentiles of `recent` values, and sum and number of all there were."""
    ordered = sorted(recent)
    lines = [f"{name}{_labels({'quantile': q})} {_number(quantile(ordered, q))}" for q in (0.5, 0.95)]
    lines += [f"{name}_sum {_number(total)}", f"{name}_count {count}"]
    return _head(name, "summary", text) + "\n".join(lines) + "\n"


def quantile(ordered: Sequence[float], q: float) -> float:
    """Of values in ascending order, between the nearest two where need be; NaN of none."""
    if not ordered:
        return float("nan")
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _head(name: str, kind: str, text: str) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} {kind}\n"


def _labels(labels: Mapping[str, object]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(str(value))}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    return str(value) if isinstance(value, int) else repr(float(value))
