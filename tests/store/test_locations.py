"""Locations of stores: URIs that are refused, no secrets in messages, services that are away."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import StoreError
from orchestrator.store import locations
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.locations import PROXIES, open_files
from tests.s3_server import SECRET


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "ftp://host/x",
            "store ftp://…: expected a folder, or a URI that begins with s3://, gs://",
        ),
        ("hdfs://host/x", "store hdfs://…: expected a folder, or a URI that begins with s3://"),
        ("s3://", "store s3://: expected s3://bucket/prefix"),
        ("s3:/x", "store s3:/x: expected s3://bucket/prefix, or a folder without s3:"),
        ("file://x/y", "store file://x/y: expected file:///folder, or a folder without file:"),
        ("file:x", "store file:x: expected file:///folder, or a folder without file:"),
        ("s3://bucket/a/../b", "store s3://bucket/a/../b: expected s3://bucket/prefix"),
        ("s3://bucket/a//b", "store s3://bucket/a//b: expected s3://bucket/prefix"),
        (
            "s3://bucket/x?colour=red",
            "store s3://bucket/x: unknown parameter 'colour'; known: allow_bucket_creation, ",
        ),
        ("s3://bucket/a?region=x&scheme=y", "cannot open store s3://bucket/a: Invalid S3 conn"),
    ],
)
def test_a_uri_of_no_store_is_refused(uri: str, message: str) -> None:
    with pytest.raises(StoreError) as error:
        open_files(uri)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://key:{SECRET}@bucket/x",
        f"s3://{SECRET}@bucket/x",
        f"s3://bucket/x?secret_key={SECRET}",
        f"s3://bucket/x?endpoint_override=http://me:{SECRET}@host",
        f"gs://me:{SECRET}@bucket/x",
        f"abfs://me:{SECRET}@account/x",
        f"abfs://c@account/x?client_secret={SECRET}",
    ],
)
def test_a_uri_with_a_secret_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(StoreError) as error:
        open_files(uri)
    assert SECRET.lower() not in str(error.value).lower()


def test_a_folder_as_a_uri(tmp_path: Path) -> None:
    opened = open_files(f"{tmp_path.as_uri()}/my%20store")
    assert isinstance(opened, LocalFiles)
    assert opened.root == f"{tmp_path}/my store"


def test_a_service_that_nothing_reaches_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, unused: int
) -> None:
    """The libraries of Google and Azure would try for minutes."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    uri = f"gs://bucket/x?endpoint_override=127.0.0.1:{unused}"
    with pytest.raises(StoreError) as caught:
        open_files(uri)
    assert str(caught.value) == (
        f"cannot open store gs://bucket/x: no connection to 127.0.0.1:{unused}: Connection refused"
    )
    tried: list[object] = []
    answer = "nothing there"
    monkeypatch.setattr(locations, "obstacle", lambda *server: tried.append(server) or answer)
    for uri in ("abfs://box@mine/x", "abfs://box@mine.dfs.core.windows.net/x", "gs://bucket"):
        with pytest.raises(StoreError, match=answer):
            open_files(uri)
    azure = ("mine.dfs.core.windows.net", 443)
    assert tried == [azure, azure, ("storage.googleapis.com", 443)]
