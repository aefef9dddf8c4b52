"""Heads from labelled prompts. The same rows and seed give the same heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgemoe.errors import EdgeMoEError
from edgemoe.routing.classes import Classes
from edgemoe.routing.features import Hashing
from edgemoe.routing.fitting import Options
from edgemoe.routing.heads import RouterModel
from edgemoe.routing.probability import Probability
from edgemoe.routing.rows import DEV, TRAIN, Row

Progress = Callable[[str], None]


def train_router(
    rows: Sequence[Row], hashing: Hashing, options: Options, progress: Progress = lambda message: None
) -> RouterModel:
    """One head for every name in the rows' labels.

    A head whose labels are texts has classes; one whose labels are numbers has a probability. Raises EdgeMoEError for
    rows that nothing can be learned from.
    """
    kept = [row for row in rows if row.split in (TRAIN, DEV)]
    kinds = {name: isinstance(label, str) for row in kept for name, label in row.labels.items()}
    if not kinds:
        raise EdgeMoEError('no row has a label: write {"text": ..., "label": ...} on each line')
    known = {label for row in kept for label in row.labels.values()}
    if wrong := [label for label in options.open_labels if label not in known]:
        raise EdgeMoEError(f"no row has the open label {', '.join(wrong)}: which do you mean?")
    heads = []
    for name, has_classes in kinds.items():
        labels = [row.labels.get(name) for row in kept]
        if any(label is not None and isinstance(label, str) is not has_classes for label in labels):
            raise EdgeMoEError(f"labels of {name} are texts on some lines and numbers on others")
        progress(f"head {name}: {sum(label is not None for label in labels)} rows")
        fit = Classes if has_classes else Probability
        heads.append(fit(name, kept, hashing, options).head())
    return RouterModel(hashing, tuple(heads))
