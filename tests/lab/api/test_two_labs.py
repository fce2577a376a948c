"""Two labs of one user at the same time: one is typed at while the other is abused, killed and made anew."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.host import family_of
from tests.lab.api.calls import type_all
from tests.lab.api.raw import ask, closed_within, connect, head, read_answer
from tests.lab.api.rig import Lab, kubectl_path
from tests.lab.labs.labtool import THIRTY, somebody
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.needs("kubectl")]
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
JSON = ("Content-Type", "application/json")
WATCHES = 200


def test_each_answers_every_call_of_the_table_whatever_happens_to_the_other(tmp_path):
    kubectl = kubectl_path("own")
    with (
        somebody(tmp_path / "run") as user,
        Lab(tmp_path / "one", user, "one") as one,
        Lab(tmp_path / "two", user, "two") as two,
        concurrent.futures.ThreadPoolExecutor(1) as beside,
    ):
        typed = beside.submit(type_all, two, kubectl)
        abuse(one)
        kill_with_thirty_pods(one, kubectl)
        one.up()
        type_all(one, kubectl)
        typed.result()
        assert [lab.told()["status"] for lab in (one, two)] == ["ready", "ready"]


def abuse(lab):
    """What no client should do, much of it at once; the lab stays as small as it was, and answers."""
    keeper = lab.told()["keeper"]
    before = memory_kb(keeper)
    with ExitStack() as held:
        for number in range(WATCHES):
            watch = held.enter_context(connect(lab))
            half = head(lab, "GET", f"{CONFIG_MAPS}?watch=1")
            watch.sendall(half if number % 2 else half[:40])
        with connect(lab) as connection:
            connection.sendall(head(lab, "POST", CONFIG_MAPS, [JSON, ("Content-Length", 100 << 20)]))
            assert read_answer(connection).code == 413
        with connect(lab) as connection:
            connection.sendall(head(lab, "POST", CONFIG_MAPS, [JSON, ("Transfer-Encoding", "chunked")]))
            for _number in range(64):
                connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            assert read_answer(connection).code == 413
            assert closed_within(connection, 5)
        nested = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
        assert ask(lab, "POST", CONFIG_MAPS, nested).code == 400
        assert ask(lab, "GET", "/api/v1/secrets", token=False).code == 401
        assert ask(lab, "GET", "/api/v1/namespaces/default/pods/..%2F..%2Fsecrets").code == 400
        assert ask(lab, "GET", "/version").code == 200
        assert memory_kb(keeper) - before < 100_000
    assert json.loads(ask(lab, "GET", CONFIG_MAPS).body)["kind"] == "ConfigMapList"


def kill_with_thirty_pods(lab, kubectl):
    """The keeper dies in the middle of its work: the kernel ends the rest, and the name is free."""
    assert lab.kubectl(kubectl, "apply", "-f", "-", stdin=THIRTY).returncode == 0
    waited = lab.kubectl(kubectl, "wait", "deployment/many", "--for=condition=Available", "--timeout=25s")
    assert waited.returncode == 0, waited.stderr
    told = lab.told()
    assert told["pods"] == 30
    alive = family_of(told["keeper"])
    assert len(alive) > 30
    os.kill(told["keeper"], signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{each}").exists() for each in alive), "the kernel to end what the lab had")
    assert lab.told() is None


def memory_kb(process):
    """Resident memory of a process and all that descend from it."""
    lines = [line for each in family_of(process) for line in Path(f"/proc/{each}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
