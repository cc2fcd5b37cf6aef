"""Write files that are either whole or absent: the one way in which this project writes a file.

The data is written beside the file, flushed to the disk, and renamed into place. A reader sees the
old file or the new one, never a part of either.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new binary file that takes the place of `path` when the block ends.

    Missing parent folders are made. Until the end the data is in `.<name>.<8 hex digits>.tmp` in
    the same folder; only a killed process leaves such a file behind. If the block or the disk
    fails, `path` stays as it was and the half-written file is removed. A link is replaced, and what
    it leads to stays. Raises `OSError`, for devices and folders in place of a file too.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is not a file", str(path))
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with half.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            half.unlink()
        raise


def write(path: Path, data: bytes | memoryview) -> None:
    """Write `data` as the whole content of `path`. Raises `OSError`, as `replacing` does.

    If another process removes the folder or the half-written file meanwhile, it is written again.
    """
    for last in (False, False, True):
        try:
            with replacing(path) as file:
                file.write(data)
            return
        except FileNotFoundError:
            if last:
                raise
