"""What `pull` would fetch, from a repository, a URL or this machine: known before the first byte of it is fetched."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from edgemoe.errors import ModelError
from edgemoe.hub import names, repository
from edgemoe.hub.choice import Candidate, candidates, choose
from edgemoe.hub.headers import stand_in
from edgemoe.hub.known import Known, free_name, known, models_folder
from edgemoe.hub.repository import Repository
from edgemoe.hub.transfer import Progress, Remote, download, look, partial_of

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True)
class Offer(ABC):
    """A model that can be had. `bytes` is the size of all its files, `missing` what of it has to be fetched."""

    source: str
    stem: str
    """What it is called where it is from, for a name."""
    quant: str
    revision: str
    bytes: int | None
    missing: int | None
    folder: Path
    """On whose disk it will lie."""
    others: tuple[Candidate, ...] = ()
    """What else there is, in a repository."""
    ours: bool = True

    @abstractmethod
    def header(self) -> AbstractContextManager[Path]:
        """A file to plan with (see `headers.stand_in`). Raises DownloadError, ModelError."""

    @abstractmethod
    def fetch(self, progress: Progress) -> tuple[Path, ...]:
        """All files, the first shard first. Raises DownloadError, WriteError."""

    @abstractmethod
    def places(self) -> tuple[Path, ...]:
        """Files that `fetch` leaves on the disk when it does not come to its end; none that were there before."""

    @property
    def here(self) -> tuple[Path, ...]:
        """The files of a model that is on this machine; none of others."""
        return ()

    def record(self, paths: tuple[Path, ...], name: str | None) -> Known:
        """What to keep of it in the list of models, under `name` or one made of what it is called."""
        wanted = [self.stem, f"{self.stem}-{self.quant}"] if self.quant else [self.stem]
        return Known(name or free_name(wanted, paths), paths, self.source, self.revision, self.quant, self.ours)


@dataclass(frozen=True)
class _FromRepository(Offer):
    repository: Repository | None = None
    candidate: Candidate | None = None

    def _both(self) -> tuple[Repository, Candidate]:
        assert self.repository is not None
        assert self.candidate is not None
        return self.repository, self.candidate

    @contextmanager
    def header(self) -> Iterator[Path]:
        place, candidate = self._both()
        there = [repository.cached(place, file) for file in candidate.files]
        if there[0] is not None and all(there):
            yield there[0]
            return
        with stand_in([repository.remote_file(place, file) for file in candidate.files]) as path:
            yield path

    def fetch(self, progress: Progress) -> tuple[Path, ...]:
        place, candidate = self._both()
        return tuple(repository.fetch(place, file, progress) for file in candidate.files)

    def places(self) -> tuple[Path, ...]:
        place, candidate = self._both()
        missing = [file for file in candidate.files if repository.cached(place, file) is None]
        return tuple(path for file in missing for path in repository.places(place, file))


@dataclass(frozen=True)
class _FromUrls(Offer):
    remotes: tuple[Remote, ...] = ()

    @contextmanager
    def header(self) -> Iterator[Path]:
        with stand_in(self.remotes) as path:
            yield path

    def fetch(self, progress: Progress) -> tuple[Path, ...]:
        targets = tuple(self.folder / remote.name for remote in self.remotes)
        for remote, target in zip(self.remotes, targets, strict=True):
            download(remote, target, progress)
        return targets

    def places(self) -> tuple[Path, ...]:
        targets = [self.folder / remote.name for remote in self.remotes]
        return tuple(path for target in targets if not target.exists() for path in (target, partial_of(target)))


@dataclass(frozen=True)
class _OfThisMachine(Offer):
    paths: tuple[Path, ...] = ()

    @contextmanager
    def header(self) -> Iterator[Path]:
        yield self.paths[0]

    @property
    def here(self) -> tuple[Path, ...]:
        return self.paths

    def fetch(self, progress: Progress) -> tuple[Path, ...]:
        return self.paths

    def places(self) -> tuple[Path, ...]:
        return ()


def find_offer(what: str, *, revision: str | None = None, sha256: str | None = None) -> Offer:
    """What `what` means: a file of this machine, a URL, or REPO[:FILE] of the hub.

    Raises:
        ModelError: it is none of these, or there is no such model; the message lists what there is.
        DownloadError: the server refuses or cannot be reached.
    """
    if what and Path(what).exists():
        return _local(Path(what))
    page = names.split_page(what, repository.endpoint()) if what.startswith(("http://", "https://")) else None
    if page:
        return _in_repository(page[0], page[2], revision or page[1])
    if reference := names.split_reference(what):
        return _in_repository(reference[0], reference[1], revision)
    if what.startswith(("http://", "https://")):
        return _at_url(what, sha256)
    near = names.nearest(what, names.model_names())
    hint = f" (you have {', '.join(near)})" if near else ""
    raise ModelError(f"{what!r} is no REPO[:FILE] of the hub, no URL and no file here{hint}: see edgemoe pull --help")


def _in_repository(name: str, wanted: str | None, revision: str | None) -> Offer:
    place = repository.open_repository(name, revision)
    where = name if place.revision == "main" else f"{name} at {place.revision}"
    candidate = choose(place.files, wanted, where)
    there = [repository.cached(place, file) for file in candidate.files]
    missing = sum(
        file.bytes - repository.partial_bytes(place, file)
        for file, path in zip(candidate.files, there, strict=True)
        if path is None
    )
    return _FromRepository(
        source=f"{name}:{candidate.files[0].name}",
        stem=re.sub(r"[-_.]?gguf$", "", name.partition("/")[2], flags=re.IGNORECASE),
        quant=candidate.quant,
        revision=place.commit,
        bytes=candidate.bytes,
        missing=missing,
        folder=repository.cache_folder(),
        others=tuple(c for c in candidates(place.files) if c != candidate),
        ours=not all(there) or _pulled_before(tuple(path for path in there if path)),
        repository=place,
        candidate=candidate,
    )


def _pulled_before(paths: tuple[Path, ...]) -> bool:
    return any(model.ours and model.paths == paths for model in known())


def _at_url(url: str, sha256: str | None) -> Offer:
    name = _file_name(url)
    if not name.lower().endswith(".gguf") or not name.isprintable():
        raise ModelError(f"{url} does not end in the name of a .gguf file")
    shard = _SHARD.search(name)
    count = int(shard[2]) if shard else 1
    if shard and int(shard[1]) != 1:
        raise ModelError(f"{name} is one of {count} shards: give the URL of the first")
    if sha256 and count > 1:
        raise ModelError("a checksum is of one file: this model has several")
    urls = [url.replace("-00001-of-", f"-{i:05d}-of-") if count > 1 else url for i in range(1, count + 1)]
    remotes = [look(each, _file_name(each)) for each in urls]
    remotes = [replace(remote, sha256=sha256) for remote in remotes]
    place = url.partition("?")[0].rpartition("/")[0]  # other places may have other files of this name
    folder = models_folder() / hashlib.sha1(place.encode(), usedforsecurity=False).hexdigest()[:12]
    sizes = [remote.bytes for remote in remotes]
    whole = None if None in sizes else sum(size or 0 for size in sizes)
    there = sum(_there(remote, folder / remote.name) for remote in remotes)
    return _FromUrls(
        source=url.partition("?")[0],
        stem=_stem(name),
        quant="",
        revision="",
        bytes=whole,
        missing=None if whole is None else max(0, whole - there),
        folder=folder,
        remotes=tuple(remotes),
    )


def _file_name(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name


def _there(remote: Remote, target: Path) -> int:
    """Bytes that need not be fetched."""
    if target.exists() and target.stat().st_size == remote.bytes:
        return remote.bytes
    partial = partial_of(target)
    return partial.stat().st_size if partial.exists() else 0


def _local(path: Path) -> Offer:
    from edgemoe.packs.summary import open_model

    paths = tuple(Path(shard).absolute() for shard in open_model(path).paths)
    size = sum(shard.stat().st_size for shard in paths)
    return _OfThisMachine("", _stem(path.name), "", "", size, 0, paths[0].parent, ours=False, paths=paths)


def _stem(name: str) -> str:
    return _SHARD.sub("", name).removesuffix(".gguf").removesuffix(".mwq")
