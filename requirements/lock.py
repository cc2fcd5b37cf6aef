"""Write the locks of this folder: one version per package, with hashes, for Linux and Python 3.11.

    make lock                    # after a change of setup.cfg: other versions stay
    make lock LOCK=--upgrade     # the newest versions

`torch.lock` holds torch and the CUDA libraries; an environment with a CPU build of torch leaves
them out. `run.lock` holds the other packages of a run, `test.lock` those that the extras add.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
OF_TORCH = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==")
COMPILE = ["pip", "compile", "--quiet", "--generate-hashes", "--no-header", "setup.cfg", "-"]
PLATFORM = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
BACKEND = "setuptools >= 77"  # an install without build isolation needs it, and setup.cfg is silent


def compiled(pins: str, *options: str) -> list[str]:
    """Resolve setup.cfg. An entry is a package's pin, its hashes and the packages that need it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock"
        output.write_text(pins)  # uv keeps these versions where it can
        uv = [sys.executable, "-m", "uv", *COMPILE, *PLATFORM, "--output-file", str(output)]
        subprocess.run(
            [*uv, *options],
            cwd=FOLDER.parent,
            input=BACKEND,
            stdout=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        text = output.read_text()
    return [entry for entry in re.split(r"^(?=\w)", text, flags=re.MULTILINE) if entry]


def name(entry: str) -> str:
    return entry.partition("==")[0]


def main(options: list[str]) -> None:
    locks = sorted(FOLDER.glob("*.lock"))
    all_of_them = compiled("".join(path.read_text() for path in locks), "--all-extras", *options)
    needed = {name(entry) for entry in compiled("".join(all_of_them))}
    files: dict[str, list[str]] = {"torch": [], "run": [], "test": []}
    for entry in all_of_them:
        file = "torch" if OF_TORCH.match(entry) else "run" if name(entry) in needed else "test"
        files[file].append(entry)
    for file, entries in files.items():
        (FOLDER / f"{file}.lock").write_text("# Written by `make lock`.\n" + "".join(entries))


if __name__ == "__main__":
    main(sys.argv[1:])
