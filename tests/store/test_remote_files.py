"""An object store: whole objects or none, and failures that pass."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable

import pytest

from orchestrator.errors import StoreError
from orchestrator.store.locations import open_files
from orchestrator.store.names import RowFile
from orchestrator.store.remote_files import RemoteFiles
from orchestrator.store.store import Store
from tests.s3_server import S3Server

LARGE = 12 * 2**20  # more than one part of an upload


@pytest.fixture
def remote(s3: S3Server) -> RemoteFiles:
    opened = open_files(s3.new_bucket())
    assert isinstance(opened, RemoteFiles)
    s3.asked.clear()
    return opened


def first(count: int, method: str) -> Callable[[str], bool]:
    """Return a function that is true for the first `count` requests of a method."""
    numbers = itertools.count()
    return lambda asked: asked.startswith(method) and next(numbers) < count


def test_a_small_file_is_one_request_and_a_look(remote: RemoteFiles, s3: S3Server) -> None:
    path = f"{remote.base}/a.bin"
    remote.put(path, b"data")
    key = path.removeprefix(remote.base.split("/")[0])
    assert [asked.split()[0] for asked in s3.asked] == ["PUT", "HEAD"]
    assert s3.asked[0].startswith(f"PUT /{remote.base.split('/')[0]}{key}")
    assert remote.get(path) == b"data"


@pytest.mark.parametrize("data", [b"x", memoryview(b"xyz"), bytes(range(256)) * (LARGE // 256)])
def test_get_returns_the_bytes_of_put(data: bytes | memoryview, remote: RemoteFiles) -> None:
    path = f"{remote.base}/folder/a.bin"
    remote.put(path, data)
    assert remote.get(path) == bytes(data)
    assert remote.size([path, f"{remote.base}/none"]) == len(data)
    assert remote.names(remote.base) == ["folder"]
    assert remote.present([f"{remote.base}/none", path]) == [path]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("method", ["PUT", "HEAD", "GET"])
def test_failures_that_pass_are_waited_for(
    method: str, remote: RemoteFiles, s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"{remote.base}/a.bin"
    s3.refuse = first(2, method)
    remote.put(path, b"data")
    assert remote.get(path) == b"data"
    assert remote.names(remote.base) == ["a.bin"]
    doing = "read" if method == "GET" else "write"
    assert f"cannot {doing} s3://{path} yet, trying again: " in caplog.messages[0]


@pytest.mark.usefixtures("hurried")
def test_failures_that_stay_are_named(remote: RemoteFiles, s3: S3Server) -> None:
    s3.refuse = lambda _: True
    path, shown = f"{remote.base}/a.bin", f"s3://{remote.base}/a.bin"
    with pytest.raises(StoreError, match=rf"^cannot write {shown}: SLOW_DOWN during PutObject op"):
        remote.put(path, b"data")
    with pytest.raises(StoreError, match=rf"^cannot read {shown}: UNKNOWN \(HTTP status 503\)"):
        remote.get(path)
    with pytest.raises(StoreError, match=rf"^cannot list s3://{remote.base}: SLOW_DOWN"):
        remote.names(remote.base)
    with pytest.raises(StoreError, match=rf"^cannot delete {shown}: UNKNOWN"):
        remote.delete(path)
    assert len(s3.asked) < 100
    s3.refuse = lambda _: False
    assert remote.names(remote.base) == []


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("refused", ["partNumber=2", "uploadId="])
def test_a_large_file_that_fails_half_way_is_never_seen(
    refused: str, remote: RemoteFiles, s3: S3Server
) -> None:
    path = f"{remote.base}/a.bin"
    s3.refuse = lambda asked: refused in asked
    with pytest.raises(StoreError, match=r"^cannot write s3://.*/a\.bin: SLOW_DOWN"):
        remote.put(path, b"x" * LARGE)
    s3.refuse = lambda _: False
    with pytest.raises(FileNotFoundError):
        remote.get(path)
    assert remote.names(remote.base) == []
    remote.put(path, b"y" * LARGE)
    assert remote.get(path) == b"y" * LARGE


@pytest.mark.usefixtures("hurried")
def test_put_checks_the_stored_size(remote: RemoteFiles) -> None:
    """The store drops a byte and reports success."""

    class Lossy:
        def open_output_stream(self, path: str) -> object:
            target = remote.fs.open_output_stream(path)
            write = target.write

            class Stream:
                write = staticmethod(lambda data: write(data[:-1]))
                close = staticmethod(target.close)

            return Stream()

        get_file_info = staticmethod(remote.fs.get_file_info)

    lossy = RemoteFiles(remote.root, Lossy(), remote.base)
    with pytest.raises(StoreError, match=r"a\.bin: INCOMPLETE: 3 bytes are stored of 4$"):
        lossy.put(f"{remote.base}/a.bin", b"data")


@pytest.mark.parametrize("size", [10, LARGE])
def test_an_interrupted_upload_is_whole(size: int, remote: RemoteFiles, s3: S3Server) -> None:
    main = threading.main_thread().ident
    assert main is not None
    once = first(1, "P")

    def interrupt(asked: str) -> bool:
        if once(asked):
            signal.pthread_kill(main, signal.SIGINT)
        return False

    s3.refuse = interrupt
    path = f"{remote.base}/a.bin"
    with pytest.raises(KeyboardInterrupt):
        remote.put(path, b"x" * size)
    # Where the interrupt comes before the sending thread is known, only the process waits for it.
    deadline = time.monotonic() + 60
    while not remote.present([path]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert remote.get(path) == b"x" * size


def test_empty_objects_are_nothing(remote: RemoteFiles) -> None:
    remote.fs.open_output_stream(f"{remote.base}/folder/empty").close()
    remote.put(f"{remote.base}/folder/full", b"x")
    assert remote.names(f"{remote.base}/folder") == ["full"]
    sizes = {entry.path: entry.size for entry in remote.walk(f"{remote.base}/folder")}
    assert sizes == {f"{remote.base}/folder/empty": 0, f"{remote.base}/folder/full": 1}


def test_a_row_file_that_another_process_moved_is_gone_at_once(
    remote: RemoteFiles, caplog: pytest.LogCaptureFixture
) -> None:
    """Its size is known from a list, and so nobody asked whether it is still there."""
    row = RowFile("0" * 16, "complete", "5eebed00", "0" * 16)
    path = f"{remote.base}/rows/{row.name}"
    remote.put(path, b"{}\n")
    assert remote.names(f"{remote.base}/rows") == [row.name]
    remote.fs.delete_file(path)
    with pytest.raises(FileNotFoundError):
        remote.get(path)
    assert not caplog.records


def test_a_dropped_folder_is_not_listed(remote: RemoteFiles) -> None:
    """A folder that holds something stays."""
    for name in ("a", "b"):
        remote.put(f"{remote.base}/kind/{name}/x", b"x")
    remote.delete(f"{remote.base}/kind/a/x")
    remote.drop(f"{remote.base}/kind/b")
    remote.drop(f"{remote.base}/kind/a")
    remote.drop(f"{remote.base}/kind/none")
    remote.delete(f"{remote.base}/kind/none")
    assert remote.names(f"{remote.base}/kind") == ["b"]


def test_one_request_a_folder(remote: RemoteFiles, s3: S3Server) -> None:
    store = Store(remote.root)
    assert store.outcomes() == {}
    assert len(s3.asked) == 4
    assert all(asked.startswith("GET ") and "list-type=2" in asked for asked in s3.asked)


def test_a_bucket_that_is_not_there(s3: S3Server) -> None:
    missing = open_files(s3.uri("nobody"))
    assert not missing.exists()
    assert missing.names(missing.base) == []
    with pytest.raises(
        StoreError, match=r"/a: NO_SUCH_BUCKET during PutObject operation: .* exist$"
    ):
        missing.put(f"{missing.base}/a", b"x")
    assert [asked.split()[0] for asked in s3.asked] == ["HEAD", "GET", "GET", "PUT"]


@pytest.mark.usefixtures("hurried", "s3")
def test_a_server_that_is_not_there() -> None:
    away = open_files("s3://bucket/x?scheme=http&endpoint_override=127.0.0.1:9")
    with pytest.raises(StoreError, match=r"^cannot list s3://bucket/x: NETWORK_CONNECTION during"):
        away.names(away.base)
