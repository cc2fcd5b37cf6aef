"""Files of a store in an object store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from pyarrow import csv

from orchestrator.store.files import Entry, Files, entry_of, names_of
from orchestrator.store.names import RowFile

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

LINE = pa.schema([("line", pa.large_binary())])


def _lines(size: int) -> ds.CsvFileFormat:
    """Return the format of a file of this size that is read as whole lines of bytes."""
    parse = csv.ParseOptions(
        delimiter="\x01", quote_char=False, escape_char=False, ignore_empty_lines=False
    )
    read = csv.ReadOptions(column_names=["line"], block_size=size + 1)
    return ds.CsvFileFormat(parse, read_options=read)


class RemoteFiles(Files):
    """A prefix of an object store. A file is one object; it appears whole and is checked."""

    def __init__(self, uri: str, fs: pafs.FileSystem, base: str):
        """`base` is the path of the prefix in `fs`."""
        self.root, self.fs, self.base = uri, fs, base
        self.scheme = urlsplit(uri).scheme
        self.sizes: dict[str, int] = {}  # of row files, from the last list

    def shown(self, path: str) -> str:
        return f"{self.scheme}://{path}"

    def transient(self, error: OSError) -> bool:
        return "AWS Error" in str(error) and not any(name in str(error) for name in REFUSED)

    def make(self) -> None:
        """Do nothing: an object store has no folders."""

    def require(self) -> None:
        """Do nothing: an object store has no folders."""

    def put(self, path: str, data: bytes | memoryview, beside: Sequence[str] = ()) -> None:
        def upload() -> None:
            self._require(beside)
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

    def names(self, folder: str) -> list[str]:
        selector = pafs.FileSelector(folder, allow_not_found=True)
        infos = self.patiently(
            f"list {self.shown(folder)}", lambda: self.fs.get_file_info(selector)
        )
        if folder == f"{self.base}/rows":
            sizes = {info.path: info.size for info in infos if RowFile.parse(info.base_name)}
            self.sizes = sizes or self.sizes
        return names_of(infos)

    def get(self, path: str) -> bytes:
        size = self.sizes.get(path)
        if size is None:
            return super().get(path)

        def read() -> bytes:
            # pyarrow's streams ask for the size first: a second request for each of many files.
            fragment = _lines(size).make_fragment(path, self.fs, file_size=size)
            try:
                lines = fragment.to_table(schema=LINE)
            except OSError as error:
                if not self.present([path]):  # the list is older than a compaction
                    raise FileNotFoundError(path) from error
                raise
            return b"".join(line.as_py() + b"\n" for line in lines["line"])

        return self.patiently(f"read {self.shown(path)}", read)

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
        yield from (entry_of(info) for info in infos if info.type == pafs.FileType.File)
