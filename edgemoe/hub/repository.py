"""Repositories of the Hugging Face Hub: what is in them, and downloads into the cache that all its programs share."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgemoe.errors import DownloadError
from edgemoe.hub.choice import RemoteFile
from edgemoe.hub.transfer import Progress, Remote, download, partial_of

_SHA1 = re.compile(r"[0-9a-f]{40}")
_TOKEN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Repository:
    """A repository at one commit. `revision` is what was asked for."""

    name: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]


def endpoint() -> str:
    """The address of the hub: HF_ENDPOINT, or huggingface.co."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def cache_folder() -> Path:
    """The hub's cache: HF_HUB_CACHE, or hub/ in HF_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def open_repository(name: str, revision: str | None = None) -> Repository:
    """Asks the hub what `name` (OWNER/NAME) has at a branch, tag or commit.

    Raises:
        DownloadError: there is no such repository or revision, it needs a token, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    revision = revision or "main"
    with _errors(name, revision):
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
    files = [
        RemoteFile(sibling.rfilename, sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None)
        for sibling in info.siblings or ()
    ]
    return Repository(name, revision, info.sha or revision, tuple(files))


def remote_file(repository: Repository, file: RemoteFile) -> Remote:
    """Where to fetch a file. Its `etag` is the hub's, which names its content in the cache. Raises DownloadError."""
    from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url

    url = hf_hub_url(repository.name, file.name, revision=repository.commit)
    with _errors(repository.name, repository.revision):
        seen = get_hf_file_metadata(url)
    etag = seen.etag
    if not etag or not re.fullmatch(r"[\w.-]+", etag):
        raise DownloadError(f"{endpoint()} has no usable name for the content of {file.name}: is it a hub?")
    git = etag if file.sha256 is None and _SHA1.fullmatch(etag) else None
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    size = seen.size if seen.size is not None else file.bytes
    return Remote(url, file.name, size, file.sha256, etag, git, headers)


def cached(repository: Repository, file: RemoteFile) -> Path | None:
    """Where the cache has this version of the file, if it does."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository.name, file.name, revision=repository.commit)
    return Path(found) if isinstance(found, str) else None


def partial_bytes(repository: Repository, file: RemoteFile) -> int:
    """How much of the file an earlier download left."""
    there = partial_of(_folder(repository.name) / "blobs" / (file.sha256 or "-"))
    return there.stat().st_size if there.exists() else 0


def places(repository: Repository, file: RemoteFile) -> tuple[Path, ...]:
    """Where a download of the file leaves something: as what it will be, and while it grows."""
    folder = _folder(repository.name)
    whole = folder / "snapshots" / repository.commit / file.name
    return (whole, partial_of(folder / "blobs" / file.sha256)) if file.sha256 else (whole,)


def fetch(repository: Repository, file: RemoteFile, progress: Progress) -> Path:
    """The file in the cache, fetched if it is not there.

    The bytes are put where the cache keeps contents by their names; then huggingface_hub finds them there and links
    them. Its own downloads begin anew when they were broken off, and check sizes only.

    Raises:
        DownloadError, WriteError: as `transfer.download` does.
    """
    from huggingface_hub import hf_hub_download

    if found := cached(repository, file):
        progress(file.bytes)
        return found
    remote = remote_file(repository, file)
    blob = _folder(repository.name) / "blobs" / str(remote.etag)
    download(_without_etag(remote), blob, progress)
    with _errors(repository.name, repository.revision):
        path = hf_hub_download(repository.name, file.name, revision=repository.commit)
    _note_revision(repository)
    return Path(path)


def _without_etag(remote: Remote) -> Remote:
    """The content's name is in no header of those who deliver it: it cannot be compared with theirs."""
    from dataclasses import replace

    return replace(remote, etag=None) if remote.sha256 else remote


def _folder(name: str) -> Path:
    return cache_folder() / f"models--{name.replace('/', '--')}"


def _note_revision(repository: Repository) -> None:
    """So that other programs find the newest commit of a branch that is in the cache."""
    if repository.revision == repository.commit:
        return
    note = _folder(repository.name) / "refs" / repository.revision
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(repository.commit)


def remove_from_cache(path: Path) -> None:
    """Removes a file of a snapshot, and its content where no other snapshot has it. Raises OSError."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    snapshots = next((folder for folder in path.parents if folder.name == "snapshots"), None)
    if snapshots is None or content.parent != snapshots.parent.resolve() / "blobs":
        return
    if not any(link.is_symlink() and link.resolve() == content for link in snapshots.rglob("*")):
        content.unlink(missing_ok=True)
    for folder in (path.parent, *path.parent.parents):
        if folder == snapshots:
            break
        with contextlib.suppress(OSError):
            folder.rmdir()  # only empty ones go


@contextlib.contextmanager
def _errors(name: str, revision: str) -> Iterator[None]:
    """What huggingface_hub raises, in words that say what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(f"{name} is gated: accept its terms at {endpoint()}/{name}, then {_TOKEN}") from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{name} has no revision {revision!r}: give a branch, tag or commit of it") from error
    except errors.RepositoryNotFoundError as error:
        where = f"there is no repository {name} at {endpoint()}"
        raise DownloadError(f"{where}, or it is private: check its name, or {_TOKEN}") from error
    except errors.EntryNotFoundError as error:
        raise DownloadError(f"{name} does not have this file at {revision!r}") from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError("HF_HUB_OFFLINE is set: unset it to fetch models") from error
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"{endpoint()} cannot be asked for {name}: {_status(error)}") from error
    except errors.HFValidationError as error:
        raise DownloadError(f"{name} is no name of a repository: {error}") from error
    except errors.FileMetadataError as error:
        raise DownloadError(f"{endpoint()} does not answer as a hub does: {error}") from error
    except OSError as error:
        raise DownloadError(f"{endpoint()} cannot be reached: {error}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "requests"):  # by its version
            raise DownloadError(f"{endpoint()} cannot be reached: {error}") from error
        raise


def _status(error: Any) -> str:
    answer = getattr(error, "response", None)
    code = getattr(answer, "status_code", None)
    if code == 401:
        return f"it needs a login: {_TOKEN}"
    return f"it answers {code}" if code else str(error)
