"""Locations of stores: a folder, or the URI of a prefix in an object store.

An object store is named by a URI: `s3://bucket/prefix?region=eu-west-1`, `gs://…`, `abfs://…`.
Credentials come from the environment, as the provider's own tools find them, and never from a URI.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from orchestrator.errors import StoreError
from orchestrator.store.files import Files, reason_of
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.reachable import obstacle
from orchestrator.store.remote_files import RemoteFiles

# Parameters that a URI may have. None of them is a secret.
PARAMETERS = {
    "s3": {"region", "scheme", "endpoint_override", "allow_bucket_creation", "tls_ca_file_path"},
    "gs": {"scheme", "endpoint_override", "retry_limit_seconds", "project_id"},
    "abfs": {"enable_tls", "blob_storage_authority", "dfs_storage_authority"},
}
PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


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
    return RemoteFiles(text, *_connect(text)) if "://" in text else LocalFiles(root)


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
        raise StoreError(f"cannot open {shown}: {reason_of(error)}") from error
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
