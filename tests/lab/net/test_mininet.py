"""Mininet's own face: topologies that `mn` takes as they are, and nodes that answer to Mininet's API."""

import subprocess
import sys
from pathlib import Path

import pytest

from hoplab.net import sandbox

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("name", "asked", "answer"),
    [
        ("cloud", "client ping -c 8 -i 0.5 -W 1 10.240.0.12", "ttl=63"),
        ("single", "client ping -c 8 -i 0.5 192.168.99.100", "ttl=64"),
    ],
)
def test_stock_mininet_takes_the_topologies(name, asked, answer, tmp_path):
    """`mn --custom` knows nothing of hoplab: hosts, routes and forwarding must come from the file alone."""
    told = tmp_path / "told.txt"
    command = [str(Path(sys.executable).with_name("mn")), "--custom", str(ROOT / "topologies" / f"{name}.py")]
    command += ["--topo", name, "--switch", "lxbr", "--controller", "none"]

    def inside():
        with told.open("w") as output:
            done = subprocess.run(
                command, input=f"{asked}\nexit\n", text=True, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        return done.returncode

    assert sandbox.run(inside) == 0, told.read_text()
    assert answer in told.read_text()


def test_nodes_answer_to_mininets_api(tmp_path):
    told = tmp_path / "told.txt"

    def inside():
        from hoplab.net.zygote import Zygote

        zygote = Zygote()
        from hoplab.cluster.options import ClusterOptions
        from hoplab.cluster.topology import build_topology
        from hoplab.net.machines import LabNet

        net = LabNet(build_topology(ClusterOptions()), zygote)
        net.start()
        node = net["node1"]
        process = node.popen("ip -brief address show dev eth0")
        output, _errors, code = node.pexec("ip route show default")
        told.write_text(
            "\n".join(
                [node.cmd("echo", "from", "a", "shell").strip(), node.IP(), process.communicate()[0].decode(), output]
            )
        )
        return code

    assert sandbox.run(inside) == 0
    text = told.read_text()
    assert text.startswith("from a shell\n10.240.0.11\n")
    assert "10.240.0.11/16" in text
    assert "default via 10.240.0.2" in text
