"""Whole files or none, in a folder or in an object store: what the store stands on.

An object store is named by a URI: `s3://bucket/prefix?region=eu-west-1`, `gs://…`, `abfs://…`.
Credentials come from the environment, as the provider's own tools find them, and never from a URI.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.errors import StoreError

Answer = TypeVar("Answer")

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds between attempts, a quarter less at random
# What pyarrow reports of S3 and what trying again would not change.
REFUSED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN",
    "NO_SUCH_BUCKET",
    "SIGNATURE_DOES_NOT_MATCH",
    "UNRECOGNIZED_CLIENT",
)
# The parameters of a URI that may be: none of them is a secret.
PARAMETERS = {
    "s3": {"region", "scheme", "endpoint_override", "allow_bucket_creation", "tls_ca_file_path"},
    "gs": {"scheme", "endpoint_override", "retry_limit_seconds", "project_id"},
    "abfs": {"enable_tls", "blob_storage_authority", "dfs_storage_authority"},
}

log = logging.getLogger("layerwise")


class Files(ABC):
    """The files below `base`, read and written through `fs`. Paths are those of `fs`."""

    root: str  # what names it: a folder or a URI
    base: str
    fs: pafs.FileSystem

    @abstractmethod
    def shown(self, path: str) -> str:
        """A path as a message names it."""

    @abstractmethod
    def put(self, path: str, data: bytes | memoryview) -> None:
        """Write a whole file, or nothing."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file; one that is gone already is fine."""

    @abstractmethod
    def drop(self, folder: str) -> None:
        """Remove a folder and the files in it; one that is gone already is fine."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """What writers that were killed left behind, and no reader sees."""

    def transient(self, error: OSError) -> bool:  # noqa: ARG002
        """Whether the same may succeed in a while."""
        return False

    def exists(self) -> bool:
        """Whether anything is there."""
        return bool(self._info([self.base])[0].type != pafs.FileType.NotFound)

    def get(self, path: str) -> bytes:
        """A whole file. Raises `FileNotFoundError`."""

        def read() -> bytes:
            with self.fs.open_input_stream(path) as stream:
                data: bytes = stream.read()
            return data

        return self.patiently(f"read {self.shown(path)}", read)

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; empty if there is no folder.

        Temporary and empty files are left out: nothing of ours is empty.
        """
        selector = pafs.FileSelector(folder, allow_not_found=True)
        found = self.patiently(
            f"list {self.shown(folder)}", lambda: self.fs.get_file_info(selector)
        )
        return sorted(
            info.base_name
            for info in found
            if not info.base_name.startswith(".") and not _is_empty(info)
        )

    def present(self, paths: Iterable[str]) -> list[str]:
        """Those of these paths that are files."""
        return [info.path for info in self._info(paths) if info.type == pafs.FileType.File]

    def size(self, paths: Iterable[str]) -> int:
        """Bytes of these files together; those that are gone count nothing."""
        return sum(info.size or 0 for info in self._info(paths))

    def _info(self, paths: Iterable[str]) -> list[pafs.FileInfo]:
        wanted = list(paths)
        if not wanted:
            return []
        found: list[pafs.FileInfo] = self.patiently(
            f"look at {self.shown(wanted[0])}", lambda: self.fs.get_file_info(wanted)
        )
        return found

    def patiently(self, doing: str, action: Callable[[], Answer]) -> Answer:
        """`action()`, tried again for about a minute while the store fails in passing.

        Raises `StoreError` where it keeps failing or refuses, and `FileNotFoundError`.
        """
        for pause in (*PAUSES, None):
            try:
                return action()
            except FileNotFoundError:
                raise
            except OSError as error:
                if pause is None or not self.transient(error):
                    raise StoreError(f"cannot {doing}: {_reason(error)}") from error
                if pause == PAUSES[0]:
                    log.warning("cannot %s yet, trying again: %s", doing, _reason(error))
                time.sleep(pause * random.uniform(0.75, 1.0))
        raise AssertionError("the last attempt returns or raises")


class LocalFiles(Files):
    """A folder. What is written is flushed to the disk and renamed into place."""

    def __init__(self, folder: str | Path):
        self.root = self.base = str(Path(folder).absolute())
        self.fs = pafs.LocalFileSystem()
        if Path(self.root).exists() and not Path(self.root).is_dir():
            raise StoreError(f"store {self.root} is a file; expected a folder")

    def shown(self, path: str) -> str:
        return path

    def put(self, path: str, data: bytes | memoryview) -> None:
        target = Path(path)
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

    def delete(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)

    def drop(self, folder: str) -> None:
        place = Path(folder)
        for file in place.glob("*"):
            self.delete(str(file))
        if place.exists() and not any(place.iterdir()):
            place.rmdir()

    def leftovers(self) -> list[str]:
        return sorted(str(half) for half in Path(self.base).rglob(".*.tmp"))


class RemoteFiles(Files):
    """A prefix of an object store. A file is one object: it appears whole, and is checked."""

    def __init__(self, uri: str):
        self.root = uri
        self.fs, self.base = _connect(uri)

    def shown(self, path: str) -> str:
        return f"{urlsplit(self.root).scheme}://{path}"

    def transient(self, error: OSError) -> bool:
        return "AWS Error" in str(error) and not any(name in str(error) for name in REFUSED)

    def put(self, path: str, data: bytes | memoryview) -> None:
        def upload() -> None:
            # In a thread, which Ctrl-C does not reach: a stream publishes what it was given when
            # it is dropped, which between opening and writing would be an empty object.
            with ThreadPoolExecutor(max_workers=1) as thread:
                thread.submit(self._send, path, data).result()

        self.patiently(f"write {self.shown(path)}", upload)

    def _send(self, path: str, data: bytes | memoryview) -> None:
        stream = self.fs.open_output_stream(path)
        stream.write(data)
        stream.close()
        stored, given = self.fs.get_file_info(path).size, pa.py_buffer(data).size
        if stored != given:
            raise OSError(f"AWS Error INCOMPLETE: {stored} bytes are stored of {given}")

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.patiently(f"delete {self.shown(path)}", lambda: self.fs.delete_file(path))

    def drop(self, folder: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.patiently(f"delete {self.shown(folder)}", lambda: self.fs.delete_dir(folder))

    def leftovers(self) -> list[str]:
        selector = pafs.FileSelector(self.base, recursive=True, allow_not_found=True)
        found = self.patiently(f"list {self.root}", lambda: self.fs.get_file_info(selector))
        return sorted(info.path for info in found if _is_empty(info))


def open_files(root: str | Path) -> Files:
    """The folder or the object store that `root` names. Raises `StoreError`."""
    text = str(root)
    if text.startswith("file://"):
        return LocalFiles(unquote(urlsplit(text).path))
    return RemoteFiles(text) if "://" in text else LocalFiles(root)


@functools.lru_cache(maxsize=8)
def _connect(uri: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's file system of a URI, and the path of its prefix there."""
    parts = urlsplit(uri)
    known = PARAMETERS.get(parts.scheme)
    if known is None:
        raise StoreError(
            f"store {parts.scheme}://…: expected a folder, or a URI that begins with "
            + ", ".join(f"{scheme}://" for scheme in PARAMETERS)
        )
    named = f"store {parts.scheme}://{parts.hostname or ''}{parts.path}"
    given = parse_qs(parts.query, keep_blank_values=True)
    if parts.password or (parts.scheme == "s3" and "@" in parts.netloc) or "@" in parts.query:
        raise StoreError(
            f"{named}: a URI shows in tables, logs and lists of processes; give credentials as "
            "the provider's own tools take them, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY in the environment, or a profile"
        )
    if unknown := sorted(set(given) - known):
        raise StoreError(
            f"{named}: unknown parameter {unknown[0]!r}; known: {', '.join(sorted(known))}"
        )
    prefix = unquote(parts.path).strip("/")
    if not parts.netloc or (prefix and {"", ".", ".."} & set(prefix.split("/"))):
        raise StoreError(f"{named}: expected {parts.scheme}://bucket/prefix")
    try:
        if parts.scheme == "s3":
            return _s3(parts.netloc, given), f"{parts.netloc}/{prefix}".rstrip("/")
        fs, base = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(f"cannot open {named}: {_reason(error)}") from error
    return fs, base.rstrip("/")


def _s3(bucket: str, given: Mapping[str, Sequence[str]]) -> pafs.S3FileSystem:
    """As `pafs.FileSystem.from_uri`, which knows no time limits and repeats for six seconds."""
    options = {name: values[-1] for name, values in given.items()}
    if "region" not in options and "endpoint_override" not in options:
        options["region"] = pafs.resolve_s3_region(bucket)
    scheme, _, endpoint = options.pop("endpoint_override", "").rpartition("://")
    return pafs.S3FileSystem(
        scheme=options.pop("scheme", scheme or "https"),
        endpoint_override=endpoint or None,
        allow_bucket_creation=options.pop("allow_bucket_creation", "false") == "true",
        allow_delayed_open=True,  # one request for a small object
        connect_timeout=10.0,
        request_timeout=30.0,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=2),
        **options,
    )


def _is_empty(info: pafs.FileInfo) -> bool:
    return bool(info.type == pafs.FileType.File and info.size == 0)


def _reason(error: Exception) -> str:
    """What an error says, in one line, without what only the provider understands."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    if match := re.search(r"AWS Error (.*)", text):
        text = match[1]
    return re.sub(r" \(Request ID: [^)]*\)", "", text)
