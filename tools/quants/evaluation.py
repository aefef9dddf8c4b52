"""How far predictions are from those of a reference model, which is run once."""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import xxhash

from edgemoe.bench.quality import Quality, measure_quality, tokenize
from edgemoe.cli.console import open_llama, progress_bar
from edgemoe.errors import EdgeMoEError
from edgemoe.packs.summary import summarize
from edgemoe.sizes import format_size
from quants.recording import Recorded, Recorder
from quants.variants import Row
from quants.work import Work, hash_files

_WINDOW = 512


class Evaluation:
    """Measures rows on the first `tokens` tokens of `text`, beside `reference`. Figures are kept in `work`."""

    def __init__(self, reference: Path, text: str, tokens: int | None, work: Work) -> None:
        summary = summarize(reference)
        self._reference = reference
        self._text = text
        self._limit = tokens
        self._work = work
        self._n_ctx = min(_WINDOW, summary.n_ctx_train or _WINDOW)
        self._what = f"{hash_files(*summary.paths)} {xxhash.xxh3_128_hexdigest(text.encode())} {tokens} {self._n_ctx}"

    def of(self, row: Row) -> dict[str, Any]:
        """The fields of `Quality`, measured now or earlier."""
        key = f"{hash_files(row.path)} {row.quality} {self._what}"
        return self._work.figures(key, lambda: dataclasses.asdict(self._compare(row)))

    def _compare(self, row: Row) -> Quality:
        recorded = self._work.file("predictions.f32", self._what, self._record)
        with closing(self._open(row.path, row.quality)) as llm:
            return self._measure(row.label, llm, Recorded(llm, recorded))

    def _record(self, path: Path) -> None:
        with path.open("wb") as file, closing(self._open(self._reference)) as llm:
            self._check_space(llm)
            self._measure("the reference", Recorder(llm, file))

    def _check_space(self, llm: Any) -> None:
        needed = 4 * llm.n_vocab() * len(tokenize(llm, self._text, self._limit)) // 2
        free = shutil.disk_usage(self._work.folder).free
        if needed > free:
            raise EdgeMoEError(
                f"the reference's predictions take {format_size(needed)}, and {self._work.folder} has "
                f"{format_size(free)}: use fewer --tokens, or another folder"
            )

    def _open(self, path: Path, quality: str = "exact") -> Any:
        return open_llama(path, quality=quality, n_ctx=self._n_ctx, logits_all=True)

    def _measure(self, label: str, llm: Any, reference: Any | None = None) -> Quality:
        tokens = tokenize(llm, self._text, self._limit)
        with progress_bar(label) as progress:
            return measure_quality(llm, tokens, n_ctx=self._n_ctx, reference=reference, progress=progress)
