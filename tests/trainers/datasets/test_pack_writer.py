"""Packing: in several processes, after a kill, with corrupt files, on a full disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.pictures import write_folder
from trainers.datasets import folders, pack_writer, shards
from trainers.datasets.images import DataError, Form
from trainers.datasets.pack_writer import CorruptError, pack
from trainers.datasets.places import place
from trainers.datasets.sets import Stored


class Setting(NamedTuple):
    """A folder of images, the images in it, and the folder of the packs."""

    folder: Path
    images: Stored
    target: Path


@pytest.fixture
def setting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_cache: Path,  # noqa: ARG001
) -> Setting:
    """11 training images in shards of 4, 5 test images in shards of 4."""
    monkeypatch.setattr(pack_writer, "SHARD_BYTES", 4 * 3 * 8 * 8)
    folder = write_folder(tmp_path / "pets")
    return Setting(folder, scanned(folder), tmp_path / "packs")


def scanned(folder: Path) -> Stored:
    """Return the images of a folder after a new scan."""
    return folders.read_files(place("image_folder", str(folder)), Form(size=8))


def run(setting: Setting, *, workers: int = 1, allow_corrupt: bool = False) -> Path:
    return pack(setting.images, setting.target, workers=workers, allow_corrupt=allow_corrupt)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


SHARDS = [
    *(f"train-0000{number}.arrow" for number in range(3)),
    "val-00000.arrow",
    "val-00001.arrow",
]


def test_the_manifest(setting: Setting) -> None:
    done = run(setting)
    assert done == setting.target / f"8-squash-{setting.images.fingerprint}"
    assert sorted(contents(done)) == ["manifest.json", *SHARDS]
    manifest = json.loads((done / "manifest.json").read_text())
    assert list(manifest["sets"]) == ["train", "val"]
    assert [shard["images"] for shard in manifest["sets"]["train"]] == [4, 4, 3]
    assert manifest["fingerprint"] == setting.images.fingerprint
    assert (manifest["format"], manifest["size"], manifest["resize"]) == (1, 8, "squash")
    assert (manifest["classes"], manifest["left_out"]) == (["cat", "dog"], [])


def test_several_processes_write_the_same_bytes(setting: Setting) -> None:
    one = contents(run(setting))
    shutil.rmtree(setting.target)
    calls: list[tuple[int, int]] = []
    done = pack(
        setting.images,
        setting.target,
        workers=2,
        progress=lambda *counts: calls.append(counts),
    )
    assert contents(done) == one
    assert (calls[0], calls[-1], len(calls)) == ((0, 16), (16, 16), 6)
    assert [path.name for path in setting.target.iterdir()] == [done.name]


def test_a_pack_that_exists_is_not_made_again(setting: Setting) -> None:
    done = run(setting)
    with pytest.raises(DataError, match=f"pack {done} exists; remove it to make it again"):
        run(setting)


class KilledError(BaseException):
    """Stands for a kill: no code catches it."""


def test_finished_shards_survive_a_kill(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = contents(run(setting))
    shutil.rmtree(setting.target)
    put = shards._put_batch
    written: list[str] = []

    def counting(path: Path, *rest: Any) -> Any:
        if len(written) == 2:
            path.with_name(f".{path.name}.0123abcd.tmp").write_bytes(b"half")
            raise KilledError
        written.append(path.name)
        return put(path, *rest)

    monkeypatch.setattr(shards, "_put_batch", counting)
    with monkeypatch.context() as patch:
        patch.setattr(pack_writer, "_clear", lambda _: None)  # a killed process removes ignore
        with pytest.raises(KilledError):
            run(setting)
    [partial] = setting.target.iterdir()
    assert partial.name.endswith(".partial")
    assert sorted(n for n in contents(partial) if n.endswith(("arrow", "tmp"))) == [
        ".train-00002.arrow.0123abcd.tmp",
        *SHARDS[:2],
    ]
    written.clear()
    monkeypatch.setattr(shards, "_put_batch", lambda *a: written.append(a[0].name) or put(*a))
    assert contents(run(setting)) == expected
    assert written == SHARDS[2:]


KILLED = """
import sys
from pathlib import Path
from trainers.datasets import folders, pack_writer
from trainers.datasets.images import Form
from trainers.datasets.places import place

if __name__ == "__main__":
    pack_writer.SHARD_BYTES = 1
    images = folders.read_files(place("image_folder", sys.argv[1]), Form(size=8))
    progress = lambda *counts: print(*counts, flush=True)
    pack_writer.pack(images, Path(sys.argv[2]), workers=2, progress=progress)
"""


def test_workers_end_with_a_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same packing afterwards gives the same pack."""
    folder = write_folder(tmp_path / "pets", {"train": {"cat": 150}, "val": {"cat": 1}})
    script, target = tmp_path / "killed.py", tmp_path / "packs"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(folder), str(target)]
    environment = {**os.environ, "PYTHONPATH": str(Path(pack_writer.__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = (process.stdout.readline() for _ in range(4))
        assert [line.split()[1] for line in lines] == ["151"] * 4
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    assert len(children) >= 2
    deadline = time.monotonic() + 60
    while running := [child for child in children if is_running(child)]:
        assert time.monotonic() < deadline, [Path(f"/proc/{x}/status").read_text() for x in running]
        time.sleep(0.05)
    [partial] = target.iterdir()
    finished = len(list(partial.glob("*.json")))
    assert 3 <= finished < 151
    monkeypatch.setattr(pack_writer, "SHARD_BYTES", 1)
    images, calls = scanned(folder), []
    done = pack(images, target, workers=1, progress=lambda *counts: calls.append(counts))
    assert calls[0] == (finished, 151)
    again = pack(images, tmp_path / "new", workers=1)
    assert contents(done) == contents(again)


def is_running(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_shard_without_its_record_is_made_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pack_writer, "_manifest", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            run(setting)
    [partial] = setting.target.iterdir()
    (partial / "train-00000.json").unlink()
    (partial / "val-00000.arrow").write_bytes(b"half")
    written = []
    put = shards._put_batch
    monkeypatch.setattr(shards, "_put_batch", lambda *a: written.append(a[0].name) or put(*a))
    run(setting)
    assert written == ["train-00000.arrow", "val-00000.arrow"]


def test_corrupt_files_are_all_listed_and_stop_the_packing(setting: Setting) -> None:
    # Overwriting in place changes no folder's time, so the folder is scanned again.
    (setting.folder / "train" / "cat" / "cat_1.JPEG").write_bytes(b"<html>")
    half = setting.folder / "val" / "dog" / "dog_2.JPEG"
    half.write_bytes(half.read_bytes()[:200])
    corrupt = Setting(setting.folder, scanned(setting.folder), setting.target)
    with pytest.raises(CorruptError) as error:
        run(corrupt)
    assert error.value.files == ("train/cat/cat_1.JPEG", "val/dog/dog_2.JPEG")
    first, *lines = str(error.value).splitlines()
    assert first == (
        "nothing is packed, because 2 files cannot be decoded: replace them, or leave them out "
        "with --allow-corrupt"
    )
    assert lines[0].startswith(
        f"  image {setting.folder}/train/cat/cat_1.JPEG is damaged or not an ima"
    )
    [partial] = setting.target.iterdir()
    assert not list(partial.glob("*.tmp"))
    assert sorted(p.name for p in partial.glob("*.arrow")) == [*SHARDS[1:3], "val-00000.arrow"]

    done = run(corrupt, allow_corrupt=True)
    manifest = json.loads((done / "manifest.json").read_text())
    assert manifest["left_out"] == ["train/cat/cat_1.JPEG", "val/dog/dog_2.JPEG"]
    assert [s["images"] for s in manifest["sets"]["train"]] == [3, 4, 3]
    assert [s["images"] for s in manifest["sets"]["val"]] == [4]


def test_no_folder_is_left_without_a_finished_shard(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_writer, "SHARD_BYTES", 2**20)
    for name in ("train/cat/cat_0.JPEG", "val/dog/dog_0.JPEG"):
        (setting.folder / name).write_bytes(b"<html>")
    with pytest.raises(CorruptError):
        run(Setting(setting.folder, scanned(setting.folder), setting.target))
    assert list(setting.target.iterdir()) == []
    for path in setting.folder.glob("val/*/*"):
        path.write_bytes(b"<html>")
    with pytest.raises(DataError, match="no image is left in val"):
        run(Setting(setting.folder, scanned(setting.folder), setting.target), allow_corrupt=True)


def test_a_disk_that_is_full_before_or_during_packing(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(setting.folder)._replace(free=2000)
    with monkeypatch.context() as patch:
        patch.setattr(pack_writer.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(DataError, match=r"the pack needs 0.0 GB more, and .* choose another"):
            run(setting)
        assert list(setting.target.iterdir()) == []
    sync, synced = os.fsync, []

    def full(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            synced.append(handle)
        if len(synced) == 3:  # the second shard
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError) as error:
            run(setting)
    assert str(error.value) == (
        f"cannot write the pack into {setting.target}: No space left on device; the same command "
        "goes on from the shards that are whole"
    )
    [partial] = setting.target.iterdir()
    assert sorted(contents(partial)) == ["train-00000.arrow", "train-00000.json"]
    assert sorted(contents(run(setting))) == ["manifest.json", *SHARDS]


def test_a_target_that_cannot_be_written(setting: Setting) -> None:
    setting.target.write_text("no folder")
    with pytest.raises(DataError, match=r"cannot write the pack into .*packs: "):
        run(setting)


def test_one_packing_at_a_time(setting: Setting) -> None:
    partial = setting.target / f"8-squash-{setting.images.fingerprint}.partial"
    messages = []

    def pack_again(done: int, total: int) -> None:  # noqa: ARG001
        before = contents(partial)
        with pytest.raises(DataError) as error:
            run(setting)
        messages.append(str(error.value))
        assert contents(partial) == before

    finished = pack(setting.images, setting.target, workers=1, progress=pack_again)
    assert messages == [f"another process is packing into {partial}"] * 6
    assert sorted(contents(finished)) == ["manifest.json", *SHARDS]


def test_a_worker_that_dies(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_writer, "_worker", dying)
    with pytest.raises(DataError, match="a worker of the packing died, perhaps for lack of memo"):
        run(setting, workers=2)


def dying() -> None:
    os._exit(9)
