"""Opens files with the readers in Python: each is refused with an EdgeMoEError, or read to its end.

tools/ci/fuzz_replay.py FOLDER...
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from edgemoe.errors import EdgeMoEError
from edgemoe.packs.reader import Pack
from edgemoe.packs.source import Source
from edgemoe.packs.summary import summarize
from edgemoe.packs.unpack import unpack
from edgemoe.packs.verify import verify

LONGEST_MESSAGE = 2000


def readers(output: Path) -> dict[str, Callable[[Path], object]]:
    """What reads a model file, by name."""
    return {
        "summarize": summarize,
        "source": lambda path: Source(path).close(),
        "pack": lambda path: Pack(path).close(),
        "verify": lambda path: verify(path, threads=1),
        "unpack": lambda path: unpack(path, None, output, threads=1, overwrite=True),
    }


def replay(paths: list[Path]) -> Counter[str]:
    """How often each reader accepted a file."""
    accepted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for name, read in readers(Path(scratch) / "unpacked.gguf").items():
            for path in paths:
                try:
                    read(path)
                    accepted[name] += 1
                except EdgeMoEError as error:
                    if not 0 < len(str(error)) < LONGEST_MESSAGE:
                        sys.exit(f"{name} of {path}: an error that nobody can read: {error}")
                except Exception as error:
                    raise RuntimeError(f"{name} of {path} ends in an error that is not its own") from error
    return accepted


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    files = [path for folder in sys.argv[1:] for path in sorted(Path(folder).iterdir())]
    print(f"accepted in Python, of {len(files)} files: {dict(replay(files))}")
