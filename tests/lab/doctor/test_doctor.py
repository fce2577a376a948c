"""The doctor on a machine that can run labs, and on one that refuses the sandbox."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hoplab.doctor import examine, host, inside
from hoplab.net import sandbox
from hoplab.net.netlink import Netlink, NetlinkFailed

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parents[3]


def doctor(*prefix):
    command = [*prefix, sys.executable, "-m", "hoplab.cli", "doctor", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def states(document):
    return {finding["name"]: finding["state"] for finding in document["findings"]}


def test_a_machine_that_runs_these_tests_can_run_labs():
    code, document = doctor()
    assert (code, document["ready"]) == (0, True)
    lacking = {f["name"]: f["found"] for f in document["findings"] if f["needed"] and f["state"] != "ok"}
    assert lacking == {}
    assert {"rule traces", "conntrack events", "packet sockets", "br_netfilter"} <= set(states(document))


def test_without_root_as_well():
    """With a user id of its own and no capability, it must enter a user namespace by itself."""
    code, document = doctor("unshare", "--user", "--map-user=1000", "--map-group=1000")
    assert code == 0
    assert states(document)["the sandbox"] == "ok"


FORBID = """
import os, sys
from hoplab.net import kernel
uid, gid = os.getuid(), os.getgid()
kernel.unshare(kernel.CLONE_NEWUSER)
for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
    open(f"/proc/self/{name}", "w").write(text)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""An administrator's limit, set in a user namespace of its own, which the host does not notice."""


def test_a_machine_that_forbids_user_namespaces_is_told_how_to_go_on():
    code, document = doctor(sys.executable, "-c", FORBID)
    assert code == 3
    found = {finding["name"]: finding for finding in document["findings"]}
    assert found["user namespaces"]["state"] == "missing"
    assert "max_user_namespaces" in found["user namespaces"]["how"]
    assert found["the sandbox"]["state"] == "missing"
    assert "sudo" in found["the sandbox"]["found"]
    assert found["veth pairs"]["state"] == "untried"


def test_a_scenario_is_refused_there_with_what_to_do():
    command = [sys.executable, "-c", FORBID, sys.executable, "-m", "hoplab.cli", "scenario", "external-lb"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (3, "")
    assert "needs a user namespace" in done.stderr
    assert "sudo" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_first_refused_step_is_named(monkeypatch):
    def refuse(_target):
        raise OSError(1, "mount overlay on /etc: Operation not permitted")

    monkeypatch.setattr(host.kernel, "mount", lambda *arguments: refuse(arguments))
    assert "Operation not permitted" in host.in_child(host._overlay)


def test_a_refused_sandbox_leaves_the_rest_untried(monkeypatch):
    def refuse(_main):
        raise sandbox.SandboxRefused("no namespaces for you")

    monkeypatch.setattr(examine.sandbox, "run", refuse)
    entered, *rest = examine.in_sandbox()
    assert (entered.state, entered.found) == ("missing", "no namespaces for you")
    assert {finding.state for finding in rest} == {"untried"}


def test_what_needed_a_missing_thing_is_untried_and_the_rest_is_not(monkeypatch):
    def no_veth(self, *_arguments, **_options):
        raise NetlinkFailed("here", "veth eth0 <-> there:eth0", OSError(95, "Operation not supported"))

    monkeypatch.setattr(Netlink, "veth", no_veth)
    found = {finding.topic.name: finding for finding in examine.in_sandbox()}
    assert found["veth pairs"].state == "missing"
    assert "Operation not supported" in found["veth pairs"].found
    assert {found[name].state for name in ("bridges", "VXLAN", "packet sockets", "rule traces")} == {"untried"}
    assert found["iptables matches and targets"].state == "ok"


def test_a_rule_that_iptables_refuses_is_named(monkeypatch):
    monkeypatch.setattr(inside, "_RULES", (*inside._RULES, "-A KUBE-TRIED -m nosuchmatch -j RETURN"))
    found = {finding.topic.name: finding for finding in examine.in_sandbox()}
    assert found["iptables matches and targets"].state == "missing"
    assert "nosuchmatch" in found["iptables matches and targets"].found
    assert "statistic" not in found["iptables matches and targets"].found
