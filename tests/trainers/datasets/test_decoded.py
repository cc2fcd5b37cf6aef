"""Image files that the processes of a node decode once: right pixels, whatever happens to them."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import Counted, files_in, pixels_of, read_again, write_folder
from trainers.datasets import SUBSETS, decoded
from trainers.datasets.decoded import DecodedOnce
from trainers.datasets.images import DataError, Files, Form, decode


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a node that has decoded nothing."""
    monkeypatch.setenv("LAYERWISE_CACHE", str(tmp_path / "node"))
    return tmp_path / "node" / "images"


@pytest.fixture
def pictures(tmp_path: Path) -> Files:
    """Forty image files."""
    return files_in(tmp_path / "pictures", 40)


def kept(node: Path) -> list[Path]:
    return sorted(node.glob("*.pixels"))


READER = """
import sys
from pathlib import Path
import numpy as np
from tests.pictures import Counted, files_in, pixels_of
from trainers.datasets.decoded import DecodedOnce

images = Counted(files_in(Path(sys.argv[1]), 40))
print("ready", flush=True)
sys.stdin.readline()
pixels = pixels_of(DecodedOnce(images))
print(len(images.decoded), int(pixels.sum(dtype=np.int64)), flush=True)
"""


def reader(folder: Path) -> subprocess.Popen[str]:
    """Start a process that reads all images once it is told to."""
    line = [sys.executable, "-c", READER, str(folder)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_decode_each_image_once_between_them(pictures: Files) -> None:
    readers = [reader(pictures.folder) for _ in range(3)]
    for process in readers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    seen = [tuple(map(int, process.communicate()[0].split())) for process in readers]
    assert sum(count for count, _ in seen) == 40
    assert {total for _, total in seen} == {int(pixels_of(pictures).sum(dtype=np.int64))}


def test_threads_decode_each_image_once_between_them(pictures: Files) -> None:
    images = Counted(pictures)
    ways = [DecodedOnce(images), DecodedOnce(images)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(pixels_of, ways * 4))
    assert sorted(images.decoded) == list(range(40))
    assert all((pixels == pixels_of(pictures)).all() for pixels in read)


def test_a_dataset_is_decoded_once_for_all_its_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodings = []

    def counted(data: bytes, form: Form) -> np.ndarray:
        decodings.append(data)
        return decode(data, form)

    monkeypatch.setattr("trainers.datasets.images.decode", counted)
    write_folder(tmp_path / "photos")
    first, second = (read_again("image_folder", tmp_path / "photos", size=8) for _ in range(2))
    for subset in SUBSETS:
        once, again = (pixels_of(read.subset(subset).images) for read in (first, second))
        assert (once == again).all()
    assert len(decodings) == len(set(decodings)) == 16


def test_a_claim_ends_with_its_process(pictures: Files, node: Path) -> None:
    DecodedOnce(pictures).gather(np.array([3]), np.empty((1, 3, 4, 4), np.uint8))
    holder = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'r+b');"
        "fcntl.lockf(file, fcntl.LOCK_EX, 1, 7); print('locked', flush=True); time.sleep(600)"
    )
    line = [sys.executable, "-c", holder, str(decoded.claims_of(*kept(node)))]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with ThreadPoolExecutor(1) as worker:
            waiting = worker.submit(pixels_of, DecodedOnce(pictures))
            time.sleep(0.3)
            assert not waiting.done()
            process.kill()
            assert (waiting.result(timeout=20) == pixels_of(pictures)).all()


def test_a_frozen_process_does_not_hold_up_the_others(
    pictures: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "WAIT", 0.05)
    images = DecodedOnce(pictures)
    records = decoded.opened(pictures)
    assert records is not None
    with records.claim(7) as is_ours:
        assert is_ours
        assert (pixels_of(images) == pixels_of(pictures)).all()
        assert records.read(7) is None
    assert (pixels_of(images) == pixels_of(pictures)).all()
    assert records.read(7) is not None


def test_every_flipped_bit_is_decoded_again(tmp_path: Path, node: Path) -> None:
    images = Counted(files_in(tmp_path / "pictures", 2))
    once = DecodedOnce(images)
    right = pixels_of(once)
    (path,) = kept(node)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        with path.open("r+b") as file:
            file.seek(bit // 8)
            file.write(bytes([whole[bit // 8] ^ 1 << bit % 8]))
        assert (pixels_of(once) == right).all()
        assert path.read_bytes() == whole
    assert len(images.decoded) == 2 + 8 * len(whole)


def test_a_record_that_was_cut_short(pictures: Files, node: Path) -> None:
    once = DecodedOnce(pictures)
    right = pixels_of(once)
    os.truncate(*kept(node), 1000)
    assert (pixels_of(once) == right).all()


def test_other_files_have_other_records(tmp_path: Path, node: Path) -> None:
    for count in (2, 3):
        pixels_of(DecodedOnce(files_in(tmp_path / str(count), count)))
    pixels_of(DecodedOnce(files_in(tmp_path / "again", 3)))  # of equal content
    assert len(kept(node)) == 2


def test_a_damaged_file_is_named_each_time(pictures: Files) -> None:
    name = pictures.names[5]
    (pictures.folder / name).write_bytes(b"")
    once = DecodedOnce(pictures)
    for _ in range(2):
        with pytest.raises(DataError, match=f"{name} has changed since its folder was listed"):
            pixels_of(once)


def test_a_disk_without_room_keeps_nothing(
    pictures: Files, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "SHARE_OF_DISK", 0.0)
    images = Counted(pictures)
    once = DecodedOnce(images)
    for _ in range(2):
        assert (pixels_of(once) == pixels_of(pictures)).all()
    assert len(images.decoded) == 80
    assert kept(node) == []


def test_a_disk_that_fills_later(pictures: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    once = DecodedOnce(pictures)
    assert (pixels_of(once) == pixels_of(pictures)).all()


def test_what_nobody_uses_makes_room(
    tmp_path: Path, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [files_in(tmp_path / str(count), count) for count in (10, 11, 12, 13)]
    for files in sets[:2]:
        pixels_of(DecodedOnce(files))
    oldest, _ = kept_of(sets[0]), kept_of(sets[1])
    os.utime(oldest, (0, 0))
    used = DecodedOnce(sets[2])
    pixels_of(used)
    os.utime(kept_of(sets[2]), (1, 1))
    size = sum(path.stat().st_size for path in kept(node))
    free = type("Usage", (), {"free": 0})
    written = sum(path.stat().st_blocks * 512 for path in kept(node))
    monkeypatch.setattr(decoded.shutil, "disk_usage", lambda _: free)
    monkeypatch.setattr(decoded, "SHARE_OF_DISK", (size + 13 * 52 - 1) / written)
    pixels_of(DecodedOnce(sets[3]))
    assert kept(node) == sorted(map(kept_of, sets[1:]))
    monkeypatch.setattr(decoded, "SHARE_OF_DISK", 25 * 52 / written)
    pixels_of(DecodedOnce(sets[0]))
    assert kept(node) == sorted(map(kept_of, (sets[0], sets[2])))  # one is in use


def kept_of(files: Files) -> Path:
    """Return the path of the records of some files."""
    records = decoded.opened(files)
    assert records is not None
    return next(path for path, value in decoded._open_here.items() if value is records)


def test_a_folder_that_cannot_be_used(
    pictures: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node").touch()
    assert (pixels_of(DecodedOnce(pictures)) == pixels_of(pictures)).all()
    (tmp_path / "node").unlink()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert (pixels_of(DecodedOnce(pictures)) == pixels_of(pictures)).all()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
@pytest.mark.parametrize("name", ["flock", "lockf"])
def test_a_file_system_without_locks(
    name: str, number: int, pictures: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(decoded, "WAIT", 0.0)
    monkeypatch.setattr(fcntl, name, refused)
    assert (pixels_of(DecodedOnce(pictures)) == pixels_of(pictures)).all()
