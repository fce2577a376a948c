"""The life of labs that stay: up, ps, down; several at once; and nothing left, however one ends."""

import os
import signal
import stat
import subprocess
import sys

import pexpect
import pytest

from tests.host import Host, children_of
from tests.lab.labs.labtool import MANIFESTS, ROOT, THIRTY, somebody
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("host_to_itself")]


@pytest.fixture
def user(tmp_path):
    with somebody(tmp_path / "run") as someone:
        yield someone


@pytest.fixture
def other(tmp_path):
    """A process whose user id is not 0: it makes its own user namespace."""
    with somebody(tmp_path / "other", ["unshare", "--user", "--map-user=1000", "--map-group=1000"]) as someone:
        yield someone


def test_the_keeper_is_killed_with_thirty_pods_running_and_nothing_is_left(user, tmp_path):
    before = Host.now()
    manifest = tmp_path / "thirty.yaml"
    manifest.write_text(THIRTY)
    user.good("up", "--detach", "-f", manifest)
    lab = user.labs()["lab"]
    assert (lab["status"], lab["nodes"], lab["pods"]) == ("ready", 2, 30)
    assert len(user.processes()) > 30

    os.kill(lab["keeper"], signal.SIGKILL)

    assert user.labs() == {}
    until(lambda: not user.processes(), "the kernel to end what the killed lab had")
    assert list(user.runtime.iterdir()) == []
    user.good("up", "--detach")
    assert user.labs()["lab"]["pods"] == 0
    user.good("down")
    assert not user.processes()
    assert list(user.runtime.iterdir()) == []
    assert before.changes(Host.now()) == []


def test_two_labs_at_once_with_equal_names_and_addresses_never_meet(user):
    for name in ("one", "two"):
        user.good("up", "--detach", "--name", name, "-f", MANIFESTS / "services-a-b.yaml")
    assert list(user.labs()) == ["one", "two"]
    assert user("exec", "client", "--", "true").returncode == 2
    user.good(
        "exec", "--name", "one", "node1", "--", "sh", "-c", "ip link add only-in-one type veth; touch /etc/only-in-one"
    )
    assert "only-in-one" in user.good("exec", "--name", "one", "node1", "--", "ip", "-o", "link")
    assert "only-in-one" not in user.good("exec", "--name", "two", "node1", "--", "ip", "-o", "link")
    assert user("exec", "--name", "two", "node1", "--", "ls", "/etc/only-in-one").returncode == 2
    for name in ("one", "two"):
        user.good("trace", "--name", name, "client", "svc/service-b", "-q")
    assert user("up", "--detach", "--name", "one").returncode == 2
    user.good("down", "--name", "one")
    assert list(user.labs()) == ["two"]
    user.good("exec", "client", "--", "curl", "-sf", "http://198.51.100.11")
    user.good("down", "--all")
    assert user.labs() == {}


def test_what_keeps_a_lab_from_coming_up_is_told_by_the_call_itself(user, tmp_path):
    manifest = tmp_path / "bad.yaml"
    manifest.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: node9}\n")
    refused = user("up", "--detach", "-f", manifest)
    assert (refused.returncode, "spec.containers" in refused.stderr) == (2, True)
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {hoplab.dev/ip: 10.9.9.9}}\n"
        "spec: {containers: [{name: c, image: nginx}]}\n"
    )
    failed = user("up", "--detach", "-f", manifest)
    assert failed.returncode == 2
    assert "10.9.9.9" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert user.labs() == {}
    assert list(user.runtime.iterdir()) == []


def test_the_detached_lab_holds_nothing_of_its_callers_terminal(user):
    """A pipe that the lab kept open would hang whoever reads it to its end; its group's signals would end it."""
    done = subprocess.run(
        ["sh", "-c", '"$@" | cat', "sh", *user.command("up", "--detach")], cwd=ROOT, env=user.environment, timeout=60
    )
    assert done.returncode == 0
    keeper = user.labs()["lab"]["keeper"]
    assert os.getsid(keeper) == keeper
    assert os.readlink(f"/proc/{keeper}/cwd") == "/"
    streams = [os.readlink(f"/proc/{keeper}/fd/{number}") for number in range(3)]
    assert streams[0] == "/dev/null"
    assert streams[1] == streams[2] == str(user.runtime / "hoplab-labs" / "lab" / "log")


def test_in_the_foreground_there_is_mininets_prompt_and_the_loop_goes_on(user):
    commands = (
        "nodes\nnode2 hostname\nnode1 ip -o addr show eth0\npingall\nclient curl -s 10.240.0.11:10256/healthz\nexit\n"
    )
    done = user("up", "-f", MANIFESTS / "services-a-b.yaml", input=commands)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert "10.240.0.11/16" in told
    assert "node2" in done.stderr.splitlines()
    assert "0% dropped" in told
    # kube-proxy's healthz is served by the lab's own loop.
    assert "currentTime" in told
    assert user.labs() == {}


def test_ctrl_c_at_the_prompt_ends_what_was_typed_and_not_the_lab(user):
    terminal = user.at_a_terminal("up")
    terminal.expect_exact("mininet> ")
    terminal.sendline("client ping 203.0.113.2")
    terminal.expect_exact("icmp_seq=2")
    terminal.sendintr()
    terminal.expect_exact("mininet> ")
    assert user.labs()["lab"]["status"] == "ready"
    terminal.sendline("client echo still$((40+2))")
    terminal.expect_exact("still42")
    # The end of input is the prompt's own: typed earlier, it would be that of what still runs.
    terminal.expect_exact("mininet> ")
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 0
    assert user.labs() == {}


def test_a_closed_terminal_ends_the_lab_in_the_foreground(user):
    terminal = user.at_a_terminal("up")
    terminal.expect_exact("mininet> ")
    # Its own end alone, as a window's: pexpect's close() would send signals besides.
    terminal.ptyproc.fileobj.close()
    # By the hang-up or by the end of its input, whichever the prompt meets first.
    until(lambda: not terminal.isalive(), "the end of the call", deadline_s=20)
    until(lambda: not user.processes(), "the end of the lab")
    assert list(user.runtime.iterdir()) == []


def test_an_interrupted_start_leaves_nothing(user, tmp_path):
    manifest = tmp_path / "thirty.yaml"
    manifest.write_text(THIRTY)
    start = user.start("up", "--detach", "-f", manifest, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until(lambda: len(user.processes()) > 4, "the lab to be built")
    start.send_signal(signal.SIGINT)
    assert start.wait(20) == 130
    until(lambda: not user.processes(), "the end of the lab")
    assert list(user.runtime.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_the_whole_group_of_a_start_hears_it_once_at_most(user, tmp_path, number):
    """A terminal's Ctrl-C reaches every process of the lab that is still of its group, the prompt's among them."""
    manifest = tmp_path / "thirty.yaml"
    manifest.write_text(THIRTY)
    for many in (3, 9):
        start = user.start("up", "-f", manifest, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        until(lambda many=many: len(user.processes()) >= many, "the lab to be built")
        os.killpg(start.pid, number)
        _out, told = start.communicate(timeout=20)
        assert start.returncode == 130, told
        assert told.decode().strip() in ("lab.py: interrupted", "")
        until(lambda: not user.processes(), "the end of the lab")
    assert list(user.runtime.iterdir()) == []


def test_a_scenario_that_pauses_has_the_same_prompt(user, tmp_path):
    arguments = ("scenario", "external-lb", "-q", "--pause", "--captures", tmp_path)
    done = user(*arguments, input="client curl -s 198.51.100.11\nexit\n")
    assert done.returncode == 0, done.stderr
    assert '"pod": "d"' in done.stdout + done.stderr


def test_down_ends_a_lab_that_hangs(user):
    user.good("up", "--detach")
    keeper = user.labs()["lab"]["keeper"]
    sandbox = children_of(keeper)[0]
    first = children_of(sandbox)[0]
    os.kill(first, signal.SIGSTOP)
    assert user.good("ps").splitlines()[1].split()[2] == "busy"
    user.good("down")
    assert user.labs() == {}


def test_a_lab_whose_socket_somebody_removed_is_listed_and_down_names_its_keeper(user):
    user.good("up", "single", "--detach")
    keeper = user.labs()["lab"]["keeper"]
    (user.runtime / "hoplab-labs" / "lab" / "control").unlink()
    assert user.labs()["lab"]["status"] == "no answer"
    refused = user("down")
    assert (refused.returncode, f"Its keeper is process {keeper}" in refused.stderr) == (1, True)
    os.kill(keeper, signal.SIGTERM)
    until(lambda: not user.processes(), "the end of the lab")
    assert user.labs() == {}
    assert list(user.runtime.iterdir()) == []


def test_an_ordinary_user_has_labs_of_his_own_and_nobody_elses(user, other):
    user.good("up", "--detach", "-f", MANIFESTS / "services-a-b.yaml")
    other.good("up", "--detach", "-f", MANIFESTS / "services-a-b.yaml")
    assert other.good("exec", "pod/d", "--", "id", "-u") == "0\n"
    assert "KUBE-SERVICES" in other.good("exec", "node1", "--", "iptables", "-t", "nat", "-nL")
    assert other.good("kubectl", "get", "pods", "-o", "name").split() == [f"pod/{name}" for name in "abcd"]
    assert other.good("kubectl", "exec", "d", "--", "hostname") == "d\n"
    other.good("trace", "client", "svc/service-b", "-q")
    shell = "echo $(hostname) $(cat /etc/hostname); exit 7"
    assert other("exec", "pod/d", "--", "sh", "-c", shell).returncode == 7
    other.good("down")
    assert list(user.labs()) == ["lab"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_reaches_neither_folder_nor_socket(user, tmp_path):
    # The way there is open, so that it is the lab's own folder that refuses.
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    user.runtime.chmod(0o755)
    user.good("up", "--detach")
    folder = user.runtime / "hoplab-labs" / "lab"
    script = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for what in sys.argv[1:]:
    try:
        if what.endswith("control"):
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(what)
        else:
            os.listdir(what) if what.endswith(("labs", "lab")) else open(what)
    except PermissionError:
        continue
    sys.exit(f"{what} could be reached")
"""
    names = ("control", "lab.json", "kubeconfig", "log")
    places = [str(folder.parent), str(folder), *(str(folder / name) for name in names)]
    subprocess.run([sys.executable, "-c", script, *places], check=True)
    assert (folder / "control").stat().st_mode & 0o777 == 0o600


def test_the_socket_answers_its_user_alone(other, tmp_path):
    """Connected from another user namespace, where nobody is this user, the lab hangs up without a word."""
    other.good("up", "--detach")
    control = other.runtime / "hoplab-labs" / "lab" / "control"
    stranger = [sys.executable, "-c", STRANGER, str(control)]
    # To the lab of an ordinary user, root of the machine is the same user; a third one is not.
    assert subprocess.run(stranger, capture_output=True, text=True, check=True).stdout == "answered\n"
    if os.geteuid() == 0:
        for folder in (control.parent, control.parent.parent, control.parent.parent.parent):
            folder.chmod(0o755)
        control.chmod(0o666)
        for folder in (tmp_path, *tmp_path.parents[:3]):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
        third = subprocess.run([*stranger, "65534"], capture_output=True, text=True, check=True)
        assert third.stdout == "hung up\n"


STRANGER = """
import json, os, socket, sys
for user in sys.argv[2:]:
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
opened.connect(sys.argv[1])
try:
    opened.send(json.dumps({"version": 1, "ask": "status"}).encode())
    print("answered" if opened.recv(1000) else "hung up")
except (BrokenPipeError, ConnectionResetError):
    print("hung up")
"""
