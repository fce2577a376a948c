"""An API server on a store that lives (see standin.py), its kubeconfig, and kubectls to type at it."""

from __future__ import annotations

import base64
import fcntl
import functools
import os
import random
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hoplab.api import certificates
from hoplab.api.limits import Limits
from hoplab.api.server import DEFAULT_LIMITS, ApiServer
from hoplab.kube.admit import Ranges
from hoplab.kube.clock import timestamp
from hoplab.kube.objects import object_of
from hoplab.kube.store import Store
from hoplab.setup import programs
from tests.lab.api.localpods import LocalPods
from tests.lab.api.standin import StandIn
from tests.lab.labs.labtool import User

RANGES = Ranges(("10.96.0.0/12",), range(30000, 32768))
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
PATIENCE_S = 30.0


def new_store() -> Store:
    """A store with the namespaces that are always there."""
    chance = random.Random(7)

    def new_uid() -> str:
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))

    store = Store(new_uid, lock=threading.RLock(), now=lambda: timestamp(time.time()))
    for name in NAMESPACES:
        metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
        document = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        store.create(object_of({**document, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}))
    return store


class Shop:
    """Something that listens, with its kubeconfig and a folder of the test's to work in."""

    folder: Path
    kubeconfig: Path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """For a kubectl that knows nothing but this server."""
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "LD_LIBRARY_PATH")}
        here = {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.folder), "TERM": "xterm"}
        return {**kept, **here, **(more or {})}

    def kubectl(
        self, program: str, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One call, from its beginning to its end."""
        return subprocess.run(
            [program, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment(env),
            cwd=self.folder,
            timeout=PATIENCE_S,
        )

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """A call that lasts."""
        return subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
            cwd=self.folder,
        )


@dataclass(frozen=True)
class Secrets:
    """What a kubeconfig tells of a lab: its authority's certificate (PEM) and a token."""

    authority: bytes
    token: str


class Lab(Shop):
    """A lab of somebody that stays, of two nodes, as `lab.py up` starts it; use it as a context."""

    def __init__(self, folder: Path, user: User, name: str) -> None:
        self.folder, self.user, self.name = folder, user, name
        folder.mkdir()

    def up(self) -> None:
        """Start it, and read where it listens."""
        self.user.good("up", "cloud", "--detach", "--name", self.name)
        self.kubeconfig = Path(self.user.good("kubeconfig", "--name", self.name).strip())
        told = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = told["clusters"][0]["cluster"], told["users"][0]["user"]
        self.port = int(cluster["server"].rpartition(":")[2])
        self.identity = Secrets(base64.b64decode(cluster["certificate-authority-data"]), user["token"])

    def told(self) -> dict[str, Any] | None:
        """What `ps` says of it; None when there is no such lab."""
        return self.user.labs().get(self.name)

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_error: object) -> None:
        if self.told() is not None:
            self.user.good("down", "--name", self.name)


class Rig(Shop):
    """A server, ready to be asked; use it as a context."""

    def __init__(self, folder: Path, *, living: bool = True, limits: Limits = DEFAULT_LIMITS) -> None:
        self.store, self.pods = new_store(), LocalPods()
        self.identity = certificates.make("test")
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self.folder = folder
        self.kubeconfig = self.folder / "kubeconfig"
        self.kubeconfig.write_text(certificates.kubeconfig(self.identity, "test", self.port))
        self.server = ApiServer(self.store, RANGES, self.pods, self.identity, limits=limits)
        self.server.start(listener)
        self.standin = StandIn(self.store) if living else None

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.close()
        if self.standin is not None:
            self.standin.close()


def kubectls() -> Sequence[str]:
    """Which kubectls the tests type with: the one that a lab would use, and the archive's (Debian's is much older)."""
    return ("own", "debian")


@functools.cache
def kubectl_path(which: str) -> str:
    """Where it is; Debian's is unpacked beside the project's other programs when it is asked for first."""
    if which == "own":
        found = programs.find("kubectl")
        assert found is not None, "no kubectl: `python3 lab.py --setup` unpacks one"
        return found.path
    here = Path(programs.PROJECT) / ".venv" / "debian"
    path = Path(programs.folder(str(here))) / "usr/bin/kubectl"
    here.mkdir(exist_ok=True)
    descriptor = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # Tests run in several workers.
        said: list[str] = []
        problem = "" if path.exists() else programs.bring(str(here), ["kubernetes-client"], said.append)
        if not path.exists() and not problem:
            pytest.skip("this system's archive has no kubectl")
        assert path.exists(), f"the archive's kubectl can't be unpacked: {problem} {' '.join(said)}"
    finally:
        os.close(descriptor)
    return str(path)
