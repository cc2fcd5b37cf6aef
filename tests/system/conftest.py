"""Simulated machines on this one: own homes, an sshd, and none of the user's settings."""

from __future__ import annotations

import getpass
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import ROOT, environment

BIN = Path(sys.executable).parent
PORT = 2222
HEAD, WORKER = "127.0.0.2", "127.0.0.3"
PATIENCE = 300.0

SSHD = """\
Port {port}
ListenAddress {head}
ListenAddress {worker}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
ForceCommand {folder}/login
"""
# What a machine runs for each connection: in a home that is not the user's.
LOGIN = """\
#!/bin/bash
export HOME={folder}/home SHELL=/bin/bash TMUX_TMPDIR={folder}
cd "$HOME"
exec /bin/bash -c "$SSH_ORIGINAL_COMMAND"
"""
SSH = """\
Host *
Port {port}
IdentityFile {folder}/key
IdentitiesOnly yes
BatchMode yes
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
"""


@dataclass(frozen=True)
class Machines:
    """A user's machine and two others, in folders below `folder`."""

    folder: Path
    token: str
    sshd: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a shell on any of the machines.

        It has this Python, this code, the cluster's token, and ssh with the tests' settings.
        """
        inherited = environment(COLUMNS="200")
        return {name: value for name, value in inherited.items() if name[:4] != "AWS_"} | {
            "HOME": str(self.home),
            "PATH": f"{self.folder}/bin:{BIN}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            **more,
        }

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the user gives it. It must succeed."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def drop_connections(self) -> None:
        """End every ssh connection, as a lost network does."""
        for session in _children(self.sshd.pid):
            os.kill(session, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(child) for child in path.read_text().split()]


def wait_for(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"no {what} in {PATIENCE:.0f} s"
        time.sleep(0.2)


@pytest.fixture(scope="session", autouse=True)
def _apart() -> None:
    """End the session unless `tests/system/run` started it: the tests stop every Ray."""
    if "LAYERWISE_SYSTEM_TESTS" not in os.environ:
        pytest.exit("start these tests with: make test-system", returncode=2)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("machines")
    for name in ("home", "bin"):
        (folder / name).mkdir()
    names = {"folder": folder, "port": PORT, "head": HEAD, "worker": WORKER}
    for key in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True
        )
    token = secrets.token_hex(32)
    (folder / "home/.ray").mkdir()
    (folder / "home/.ray/auth_token").write_text(token)
    (folder / "sshd_config").write_text(SSHD.format(**names))
    (folder / "ssh_config").write_text(SSH.format(**names))
    _script(folder / "login", LOGIN.format(**names))
    _script(folder / "bin/ssh", f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config "$@"\n')
    Path("/run/sshd").mkdir(exist_ok=True)
    sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")])
    made = Machines(folder, token, sshd)
    try:
        (folder / "home/.bashrc").write_text(
            "".join(
                f"export {name}={value!r}\n"
                for name, value in made.environment().items()
                if name in ("PATH", "PYTHONPATH") or name.startswith("RAY_")
            )
        )
        hello = ["ssh", f"{getpass.getuser()}@{WORKER}", "echo hello"]
        wait_for(
            lambda: (
                subprocess.run(
                    hello, env=made.environment(), capture_output=True, text=True, check=False
                ).stdout
                == "hello\n"
            ),
            "answer of sshd",
        )
        yield made
    finally:
        sshd.terminate()
        sshd.wait()


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
