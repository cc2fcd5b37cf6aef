"""Packing: in several processes, after a kill, with corrupt files, on a full disk."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pictures import write_folder

from trainers import packing, shards
from trainers.datasets import folders
from trainers.datasets.images import DataError, Form
from trainers.datasets.listings import forget
from trainers.datasets.places import place
from trainers.datasets.sets import Stored
from trainers.packing import CorruptError, pack


class Setting(NamedTuple):
    """Images, and where they are packed."""

    folder: Path
    images: Stored
    target: Path


def nothing(done: int, total: int) -> None: ...


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    """11 training images in shards of 4, 5 test images in shards of 4."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packing, "SHARD_BYTES", 4 * 3 * 8 * 8)
    folder = write_folder(tmp_path / "pets")
    return Setting(folder, look(folder), tmp_path / "packs")


def look(folder: Path) -> Stored:
    forget(folder)
    return folders.files(place("image_folder", str(folder)), Form(size=8))


def run(setting: Setting, *, workers: int = 1, allow_corrupt: bool = False) -> Path:
    return pack(
        setting.images, setting.target, workers=workers, allow_corrupt=allow_corrupt, told=nothing
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


SHARDS = [
    *(f"train-0000{number}.arrow" for number in range(3)),
    "val-00000.arrow",
    "val-00001.arrow",
]


def test_what_a_pack_says_of_itself(setting: Setting) -> None:
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
    told: list[tuple[int, int]] = []
    done = pack(
        setting.images,
        setting.target,
        workers=2,
        allow_corrupt=False,
        told=lambda done, total: told.append((done, total)),
    )
    assert contents(done) == one
    assert (told[0], told[-1], len(told)) == ((0, 16), (16, 16), 6)
    assert [path.name for path in setting.target.iterdir()] == [done.name]


def test_a_pack_that_is_there_is_not_made_again(setting: Setting) -> None:
    done = run(setting)
    with pytest.raises(DataError, match=f"pack {done} is there; remove it to make it again"):
        run(setting)


class KilledError(BaseException):
    """Stands for a kill: nothing catches it, and nothing is tidied by us."""


def test_after_a_kill_whole_shards_are_kept(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(run(setting))
    shutil.rmtree(setting.target)
    put = shards._put_batch
    written: list[str] = []

    def counting(path: Path, *rest: Any) -> Any:
        if len(written) == 2:
            path.with_name(path.name + ".1.tmp").write_bytes(b"half")
            raise KilledError
        written.append(path.name)
        return put(path, *rest)

    monkeypatch.setattr(shards, "_put_batch", counting)
    with monkeypatch.context() as patch:
        patch.setattr(packing, "_clear", lambda _: None)  # a kill tidies nothing
        with pytest.raises(KilledError):
            run(setting)
    [partial] = setting.target.iterdir()
    assert partial.name.endswith(".partial")
    assert sorted(n for n in contents(partial) if n.endswith(("arrow", "tmp"))) == [
        *SHARDS[:2],
        "train-00002.arrow.1.tmp",
    ]
    written.clear()
    monkeypatch.setattr(shards, "_put_batch", lambda *a: written.append(a[0].name) or put(*a))
    assert contents(run(setting)) == whole
    assert written == SHARDS[2:]


KILLED = """
import sys
from pathlib import Path
from trainers import packing
from trainers.datasets import folders
from trainers.datasets.images import Form
from trainers.datasets.places import place

if __name__ == "__main__":
    packing.SHARD_BYTES = 1
    images = folders.files(place("image_folder", sys.argv[1]), Form(size=8))
    told = lambda *done: print(*done, flush=True)
    packing.pack(images, Path(sys.argv[2]), workers=2, allow_corrupt=False, told=told)
"""


def test_a_killed_process_takes_its_workers_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same packing afterwards gives what it would have given."""
    folder = write_folder(tmp_path / "pets", {"train": {"cat": 150}, "val": {"cat": 1}})
    script, target = tmp_path / "killed.py", tmp_path / "packs"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(folder), str(target)]
    environment = {**os.environ, "PYTHONPATH": str(Path(packing.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = (process.stdout.readline() for _ in range(4))
        assert [line.split()[1] for line in lines] == ["151"] * 4
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
    assert len(children) >= 2
    while any(is_running(child) for child in children):
        time.sleep(0.05)
    [partial] = target.iterdir()
    kept = len(list(partial.glob("*.json")))
    assert 3 <= kept < 151
    monkeypatch.setattr(packing, "SHARD_BYTES", 1)
    images, told = look(folder), []
    done = pack(
        images, target, workers=1, allow_corrupt=False, told=lambda *done: told.append(done)
    )
    assert told[0] == (kept, 151)
    again = pack(images, tmp_path / "new", workers=1, allow_corrupt=False, told=nothing)
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
        patch.setattr(packing, "_manifest", lambda *_: pytest.fail("stopped"))
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
    # Overwriting in place changes no folder's time; `layerwise pack` looks anew.
    (setting.folder / "train" / "cat" / "cat_1.JPEG").write_bytes(b"<html>")
    half = setting.folder / "val" / "dog" / "dog_2.JPEG"
    half.write_bytes(half.read_bytes()[:200])
    spoilt = Setting(setting.folder, look(setting.folder), setting.target)
    with pytest.raises(CorruptError) as error:
        run(spoilt)
    assert error.value.files == ("train/cat/cat_1.JPEG", "val/dog/dog_2.JPEG")
    first, *lines = str(error.value).splitlines()
    assert first == (
        "nothing is packed, for 2 files cannot be read: make them whole, or leave them out with "
        "--allow-corrupt"
    )
    assert lines[0].startswith(
        f"  image {setting.folder}/train/cat/cat_1.JPEG is damaged or no ima"
    )
    [partial] = setting.target.iterdir()
    assert not list(partial.glob("*.tmp"))
    assert sorted(p.name for p in partial.glob("*.arrow")) == [*SHARDS[1:3], "val-00000.arrow"]

    done = run(spoilt, allow_corrupt=True)
    manifest = json.loads((done / "manifest.json").read_text())
    assert manifest["left_out"] == ["train/cat/cat_1.JPEG", "val/dog/dog_2.JPEG"]
    assert [s["images"] for s in manifest["sets"]["train"]] == [3, 4, 3]
    assert [s["images"] for s in manifest["sets"]["val"]] == [4]


def test_nothing_is_left_where_nothing_was_whole(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SHARD_BYTES", 2**20)
    for name in ("train/cat/cat_0.JPEG", "val/dog/dog_0.JPEG"):
        (setting.folder / name).write_bytes(b"<html>")
    with pytest.raises(CorruptError):
        run(Setting(setting.folder, look(setting.folder), setting.target))
    assert list(setting.target.iterdir()) == []
    for path in setting.folder.glob("val/*/*"):
        path.write_bytes(b"<html>")
    with pytest.raises(DataError, match="no whole image is left in val"):
        run(Setting(setting.folder, look(setting.folder), setting.target), allow_corrupt=True)


def test_a_disk_that_is_full_before_or_meanwhile(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(setting.folder)._replace(free=2000)
    with monkeypatch.context() as patch:
        patch.setattr(packing.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(DataError, match=r"the pack takes 0.0 GB more, and .* pack somewhere"):
            run(setting)
        assert list(setting.target.iterdir()) == []
    sync, synced = os.fsync, []

    def full(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 3:  # the second shard
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(shards.os, "fsync", full)
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
    partial.mkdir(parents=True)
    handle = os.open(partial, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match=f"another process is packing into {partial}"):
        run(setting)
    os.close(handle)
    run(setting)


def test_a_process_that_dies(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_worker", dying)
    with pytest.raises(DataError, match="a process of the packing died, perhaps for lack of mem"):
        run(setting, workers=2)


def dying() -> None:
    os._exit(9)
