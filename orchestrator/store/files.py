"""Whole files or none, in a folder or in an object store: the base of `Store`.

An object store is named by a URI: `s3://bucket/prefix?region=eu-west-1`, `gs://…`, `abfs://…`.
Credentials come from the environment, as the provider's own tools find them, and never from a URI.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import random
import re
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.errors import StoreError
from orchestrator.store.reachable import obstacle
from trainers import whole_file

Answer = TypeVar("Answer")
_once: ContextVar[bool] = ContextVar("_once", default=False)  # see `Files.once`

PAUSES = (1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)  # seconds between attempts, up to a quarter less
PATIENCE = 40.0  # seconds of attempts, after which no other one begins
# Errors of S3, in the names of pyarrow, that another attempt would not change.
REFUSED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN",
    "NO_SUCH_BUCKET",
    "SIGNATURE_DOES_NOT_MATCH",
    "UNRECOGNIZED_CLIENT",
)
# Errors of a disk that may pass: somebody makes room, a network disk is mounted again.
PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ENODEV,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
}
# Parameters that a URI may have. None of them is a secret.
PARAMETERS = {
    "s3": {"region", "scheme", "endpoint_override", "allow_bucket_creation", "tls_ca_file_path"},
    "gs": {"scheme", "endpoint_override", "retry_limit_seconds", "project_id"},
    "abfs": {"enable_tls", "blob_storage_authority", "dfs_storage_authority"},
}
PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")

log = logging.getLogger("layerwise")


class Entry(NamedTuple):
    """A file below the root of a store, as a listing reports it."""

    path: str
    size: int
    written: float
    """Seconds since 1970."""


class Files(ABC):
    """The files below `base`, read and written through `fs`. Paths are those of `fs`."""

    root: str  # its name: a folder or a URI
    base: str
    fs: pafs.FileSystem

    @abstractmethod
    def shown(self, path: str) -> str:
        """Return a path as messages show it."""

    @abstractmethod
    def put(self, path: str, data: bytes | memoryview) -> None:
        """Write a whole file, or nothing. Raises `StoreError`."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file. A file that is gone already is no error."""

    @abstractmethod
    def drop(self, folder: str) -> None:
        """Remove a folder if it is empty. A folder that is gone already is no error."""

    @abstractmethod
    def walk(self, folder: str) -> Iterator[Entry]:
        """Yield every file in a folder and below, hidden ones too. Links are not followed."""

    def links(self, folders: Sequence[str]) -> list[str]:  # noqa: ARG002
        """Return the links among these folders and their contents."""
        return []

    @abstractmethod
    def make(self) -> None:
        """Make the folder, where the store is one. Raises `StoreError`."""

    @abstractmethod
    def require(self) -> None:
        """Wait for the folder, where the store is one. Raises `StoreError` if it stays away."""

    def transient(self, error: OSError) -> bool:  # noqa: ARG002
        """Return whether another attempt may succeed in a while."""
        return False

    def exists(self) -> bool:
        """Return whether the folder or prefix exists."""
        return bool(self._info([self.base])[0].type != pafs.FileType.NotFound)

    def get(self, path: str) -> bytes:
        """Return a whole file. Raises `FileNotFoundError`, `StoreError`."""

        def read() -> bytes:
            with self.fs.open_input_stream(path) as stream:
                data: bytes = stream.read()
            return data

        return self.patiently(f"read {self.shown(path)}", read)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; an empty list without the folder.

        Temporary and empty files are left out: the store writes no empty file.
        """
        selector = pafs.FileSelector(folder, allow_not_found=True)
        infos = self.patiently(
            f"list {self.shown(folder)}", lambda: self.fs.get_file_info(selector)
        )
        return sorted(
            info.base_name
            for info in infos
            if not info.base_name.startswith(".") and not _is_empty(info)
        )

    def entries(self, folder: str) -> list[Entry]:
        """Return the files in a folder that `names` lists; links to files count as files."""
        selector = pafs.FileSelector(folder, allow_not_found=True)
        infos = self.patiently(
            f"list {self.shown(folder)}", lambda: self.fs.get_file_info(selector)
        )
        return [_entry(info) for info in infos if info.type == pafs.FileType.File and info.size]

    def present(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that are files."""
        return [info.path for info in self._info(paths) if info.type == pafs.FileType.File]

    def size(self, paths: Iterable[str]) -> int:
        """Return the sum of the sizes of these files, in bytes. A missing file counts as 0."""
        return sum(info.size or 0 for info in self._info(paths))

    def _info(self, paths: Iterable[str]) -> list[pafs.FileInfo]:
        wanted = list(paths)
        if not wanted:
            return []
        infos: list[pafs.FileInfo] = self.patiently(
            f"look at {self.shown(wanted[0])}", lambda: self.fs.get_file_info(wanted)
        )
        return infos

    @contextlib.contextmanager
    def once(self) -> Iterator[None]:
        """Try every action of this thread once, instead of repeating it."""
        token = _once.set(True)
        try:
            yield
        finally:
            _once.reset(token)

    def patiently(self, doing: str, action: Callable[[], Answer]) -> Answer:
        """Return `action()`, repeated for about 40 seconds while its failures may pass.

        `doing` says in messages what failed. Raises `StoreError` for failures that stay or that
        are not `transient`, and `FileNotFoundError`.
        """
        deadline = time.monotonic() + (0.0 if _once.get() else PATIENCE)
        for pause in (*PAUSES, None):
            try:
                return action()
            except FileNotFoundError:
                raise
            except OSError as error:
                late = pause is None or time.monotonic() + pause > deadline
                if late or not self.transient(error):
                    raise StoreError(f"cannot {doing}: {_reason(error)}") from error
                assert pause is not None
                if pause == PAUSES[0]:
                    log.warning("cannot %s yet, trying again: %s", doing, _reason(error))
                time.sleep(pause * random.uniform(0.75, 1.0))
        raise AssertionError("the last attempt returns or raises")


class LocalFiles(Files):
    """A folder. A file is written beside its place, flushed to the disk and renamed into place."""

    def __init__(self, folder: str | Path):
        try:
            self.root = self.base = str(Path(folder).expanduser().absolute())
            self.root.encode()
        except RuntimeError as error:
            raise StoreError(f"store {folder}: {error}") from error
        except UnicodeEncodeError as error:
            raise StoreError(
                f"the path of the store, {str(Path(folder).absolute())!r}, is not UTF-8: rename "
                "its folder, or name another one with --store"
            ) from error
        self.fs = pafs.LocalFileSystem()
        self.is_made = Path(self.root).is_dir()
        if Path(self.root).exists() and not self.is_made:
            raise StoreError(f"store {self.root} is a file; expected a folder")

    def shown(self, path: str) -> str:
        return path

    def transient(self, error: OSError) -> bool:
        return error.errno in PASSING

    def make(self) -> None:
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {self.root}: {_reason(error)}") from error
        self.is_made = True

    def require(self) -> None:
        self.is_made = True
        self.patiently("find the store", self._look_for_root)

    def _look_for_root(self) -> None:
        """Raise `OSError` if the root has gone. A new one could be on another disk."""
        if self.is_made and not Path(self.root).is_dir():
            raise OSError(errno.ENODEV, f"the folder {self.root} is gone")

    def put(self, path: str, data: bytes | memoryview) -> None:
        def write() -> None:
            self._look_for_root()
            whole_file.write(Path(path), data)
            self.is_made = True

        try:
            self.patiently(f"write {path}", write)
        except FileNotFoundError as error:
            raise StoreError(f"cannot write {path}: {_reason(error)}") from error

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.patiently(f"delete {path}", Path(path).unlink)

    def drop(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # something else is there
            Path(folder).rmdir()

    def walk(self, folder: str) -> Iterator[Entry]:
        if Path(folder).is_symlink():
            return

        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise StoreError(f"cannot list {error.filename}: {_reason(error)}") from error

        for parent, _, names in os.walk(folder, onerror=fail):
            for name in names:
                path = f"{parent}/{name}"
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(path)
                    if stat.S_ISREG(status.st_mode):
                        yield Entry(path, status.st_size, status.st_mtime)

    def links(self, folders: Sequence[str]) -> list[str]:
        links = [folder for folder in folders if Path(folder).is_symlink()]
        for top in folders:
            if top not in links:
                for parent, below, names in os.walk(top):
                    paths = (f"{parent}/{name}" for name in (*below, *names))
                    links += [path for path in paths if Path(path).is_symlink()]
        return sorted(links)


class RemoteFiles(Files):
    """A prefix of an object store. A file is one object; it appears whole and is checked."""

    def __init__(self, uri: str):
        self.root = uri
        self.fs, self.base = _connect(uri)

    def shown(self, path: str) -> str:
        return f"{urlsplit(self.root).scheme}://{path}"

    def transient(self, error: OSError) -> bool:
        return "AWS Error" in str(error) and not any(name in str(error) for name in REFUSED)

    def make(self) -> None:
        """Do nothing: an object store has no folders."""

    def require(self) -> None:
        """Do nothing: an object store has no folders."""

    def put(self, path: str, data: bytes | memoryview) -> None:
        def upload() -> None:
            # In a thread, which Ctrl-C does not reach: a stream that is dropped publishes the bytes
            # written so far, and between opening and writing that would be an empty object.
            with ThreadPoolExecutor(max_workers=1) as thread:
                thread.submit(self._send, path, data).result()

        self.patiently(f"write {self.shown(path)}", upload)

    def _send(self, path: str, data: bytes | memoryview) -> None:
        stream = self.fs.open_output_stream(path)
        stream.write(data)
        stream.close()
        stored, size = self.fs.get_file_info(path).size, pa.py_buffer(data).size
        if stored != size:
            raise OSError(f"AWS Error INCOMPLETE: {stored} bytes are stored of {size}")

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.patiently(f"delete {self.shown(path)}", lambda: self.fs.delete_file(path))

    def drop(self, folder: str) -> None:
        """Remove the empty object that stands for a folder."""
        if next(self.walk(folder), None) is None:
            with contextlib.suppress(FileNotFoundError):
                self.patiently(f"delete {self.shown(folder)}", lambda: self.fs.delete_dir(folder))

    def walk(self, folder: str) -> Iterator[Entry]:
        selector = pafs.FileSelector(folder, recursive=True, allow_not_found=True)
        infos = self.patiently(
            f"list {self.shown(folder)}", lambda: self.fs.get_file_info(selector)
        )
        yield from (_entry(info) for info in infos if info.type == pafs.FileType.File)


def open_files(root: str | Path) -> Files:
    """Open the folder or the object store that `root` names. Raises `StoreError`."""
    text = str(root)
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("file", *PARAMETERS):
        if not rest.startswith("//") or (scheme == "file" and not rest.startswith("///")):
            form = "file:///folder" if scheme == "file" else f"{scheme}://bucket/prefix"
            raise StoreError(f"store {text}: expected {form}, or a folder without {scheme}:")
        if scheme == "file":
            return LocalFiles(unquote(urlsplit(text).path))
    return RemoteFiles(text) if "://" in text else LocalFiles(root)


@functools.lru_cache(maxsize=8)
def _connect(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a URI, and the path of its prefix in it. Raises `StoreError`."""
    parts = urlsplit(uri)
    allowed = PARAMETERS.get(parts.scheme)
    if allowed is None:
        raise StoreError(
            f"store {parts.scheme}://…: expected a folder, or a URI that begins with "
            + ", ".join(f"{scheme}://" for scheme in PARAMETERS)
        )
    shown = f"store {parts.scheme}://{parts.hostname or ''}{parts.path}"
    parameters = parse_qs(parts.query, keep_blank_values=True)
    if parts.password or (parts.scheme == "s3" and "@" in parts.netloc) or "@" in parts.query:
        raise StoreError(
            f"{shown}: tables, logs and lists of processes show a URI; give credentials as the "
            "provider's own tools take them, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY in the environment, or a profile"
        )
    if unknown := sorted(set(parameters) - allowed):
        raise StoreError(
            f"{shown}: unknown parameter {unknown[0]!r}; known: {', '.join(sorted(allowed))}"
        )
    prefix = unquote(parts.path).strip("/")
    if not parts.netloc or (prefix and {"", ".", ".."} & set(prefix.split("/"))):
        raise StoreError(f"{shown}: expected {parts.scheme}://bucket/prefix")
    try:
        if parts.scheme == "s3":
            return _s3(parts.netloc, parameters), f"{parts.netloc}/{prefix}".rstrip("/")
        _refuse_unreachable(shown, *_server(parts, parameters))
        fs, base = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"cannot open {shown}: {_reason(error)}") from error
    return fs, base.rstrip("/")


def _server(parts: SplitResult, parameters: Mapping[str, Sequence[str]]) -> tuple[str, int]:
    """Return host and port of the service that keeps a bucket of Google's or of Azure."""
    if parts.scheme == "gs":
        host = "storage.googleapis.com"
        place = parameters.get("endpoint_override", [host])[-1]
    else:
        account = parts.hostname or ""
        host = account if "." in account else f"{account}.dfs.core.windows.net"
        place = parameters.get("dfs_storage_authority", [host])[-1]
    place = f"{parts.hostname}{place}" if place.startswith(".") else place
    named = urlsplit(place if "://" in place else f"//{place}")
    return named.hostname or host, named.port or 443


def _refuse_unreachable(shown: str, host: str, port: int) -> None:
    """Raise `StoreError` if nothing answers: the libraries of both services try for minutes."""
    if any(os.environ.get(name) for name in PROXIES):  # then a proxy reaches it
        return
    if reason := obstacle(host, port):
        raise StoreError(f"cannot open {shown}: no connection to {host}:{port}: {reason}")


def _s3(bucket: str, parameters: Mapping[str, Sequence[str]]) -> pafs.S3FileSystem:
    """Open S3 as `pafs.FileSystem.from_uri` does, with time limits and fewer repetitions."""
    options = {name: values[-1] for name, values in parameters.items()}
    if "region" not in options and "endpoint_override" not in options:
        options["region"] = pafs.resolve_s3_region(bucket)
    scheme, _, endpoint = options.pop("endpoint_override", "").rpartition("://")
    return pafs.S3FileSystem(
        scheme=options.pop("scheme", scheme or "https"),
        endpoint_override=endpoint or None,
        allow_bucket_creation=options.pop("allow_bucket_creation", "false") == "true",
        allow_delayed_open=True,  # one request for a small object
        connect_timeout=5.0,
        request_timeout=8.0,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
        **options,
    )


def _entry(info: pafs.FileInfo) -> Entry:
    return Entry(info.path, info.size or 0, (info.mtime_ns or 0) / 1e9)


def _is_empty(info: pafs.FileInfo) -> bool:
    return bool(info.type == pafs.FileType.File and info.size == 0)


def _reason(error: Exception) -> str:
    """Return the message of an error in one line, without the provider's request ids."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    if match := re.search(r"AWS Error (.*)", text):
        text = match[1]
    return re.sub(r" \(Request ID: [^)]*\)", "", text)
