"""Programs inside a running lab, as `docker exec` has them: streams, exit codes, signals, terminals, files."""

import hashlib
import os
import signal
import subprocess
import sys
import termios

import pexpect
import pytest

from tests.lab.labs.labtool import MANIFESTS, ROOT, somebody
from tests.waiting import until

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    with somebody(tmp_path_factory.mktemp("inside") / "run") as someone:
        someone.good("up", "--detach", "-f", MANIFESTS / "services-a-b.yaml")
        yield someone


@pytest.mark.parametrize("target", ["client", "lb", "router", "node1", "pod/d", "203.0.113.10"])
def test_every_place_has_its_own_name_and_addresses(user, target):
    name = {"pod/d": "d", "203.0.113.10": "client"}.get(target, target)
    told = user.good("exec", target, "--", "sh", "-c", "hostname; cat /etc/hostname; hostname -f")
    assert told.split() == [name] * 3


def test_a_pods_files_are_as_the_kubelet_writes_them(user):
    address = user.good("exec", "pod/d", "--", "ip", "-4", "-o", "addr", "show", "eth0").split()[3].partition("/")[0]
    hosts = user.good("exec", "pod/d", "--", "cat", "/etc/hosts").splitlines()
    assert hosts[0] == "# Kubernetes-managed hosts file."
    assert hosts[1] == "127.0.0.1\tlocalhost"
    assert hosts[-1] == f"{address}\td"
    assert user.good("exec", "pod/d", "--", "cat", "/etc/resolv.conf") == (
        "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.0.0.10\noptions ndots:5\n"
    )


def test_a_machine_knows_the_others_and_not_the_hosts_name_server(user):
    assert "10.240.0.12" in user.good("exec", "node1", "--", "getent", "hosts", "node2")
    resolver = user.good("exec", "node1", "--", "cat", "/etc/resolv.conf")
    assert [line for line in resolver.splitlines() if not line.startswith("#")] == []


def test_what_lies_below_a_places_own_files_cannot_be_changed(user):
    """/etc and /var/lib are overlays over this machine's, which can be seen, and no more."""
    for folder in ("etc", "var-lib"):
        touched = user("exec", "node1", "--", "touch", f"/run/hoplab/host/{folder}/by-a-test")
        assert (touched.returncode, "Read-only file system" in touched.stderr) == (1, True)
    user.good("exec", "node1", "--", "touch", "/etc/by-a-test")
    assert not os.path.exists("/etc/by-a-test")


def test_lab_py_inside_a_lab_finds_no_lab_and_harms_none(user):
    here = [sys.executable, "-m", "hoplab.cli", "ps"]
    environment = ("-e", f"PYTHONPATH={ROOT}", "-e", "XDG_RUNTIME_DIR=")
    assert len(user.good("exec", *environment, "node1", "--", *here).splitlines()) == 1
    assert user.good("exec", "node1", "--", "cat", "/etc/hostname") == "node1\n"


CODES = {"true": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -KILL $$": 137}


@pytest.mark.parametrize("script", CODES)
def test_the_exit_code_is_the_programs(user, script):
    assert user("exec", "node1", "--", "sh", "-c", script).returncode == CODES[script]


def test_a_program_that_is_not_there_or_none(user):
    absent = user("exec", "node1", "--", "no-such-program")
    assert (absent.returncode, absent.stderr) == (127, "lab.py: node1: no-such-program: No such file or directory\n")
    refused = user("exec", "node1", "--", "/etc/hosts")
    assert (refused.returncode, refused.stderr) == (126, "lab.py: node1: /etc/hosts: Permission denied\n")


def test_binary_data_goes_through_whole_in_both_directions(user):
    data = os.urandom(3_000_000)
    done = user("exec", "-i", "pod/d", "--", "cat", input=data, text=False)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_output_and_errors_stay_apart(user):
    done = user("exec", "node1", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_without_i_standard_input_is_empty(user):
    assert user.good("exec", "node1", "--", "cat", input="not passed on\n") == ""


def test_a_reader_that_goes_ends_the_writer(user):
    """`yes | head` ends because `yes` meets a closed pipe: the pipe is the very one of the caller."""
    read, write = os.pipe()
    running = user.start("exec", "node1", "--", "yes", stdout=write)
    os.close(write)
    assert os.read(read, 4) == b"y\ny\n"
    os.close(read)
    assert running.wait(10) == 128 + signal.SIGPIPE


def test_options_behind_the_target_are_the_programs(user):
    assert user.good("exec", "node1", "echo", "-n", "--debug") == "--debug"


def test_environment_and_directory(user):
    script = 'echo "$WORD $HOME $(pwd)"'
    assert (
        user.good("exec", "-e", "WORD=given", "-w", "/etc", "node1", "--", "sh", "-c", script) == "given /root /etc\n"
    )
    nowhere = user("exec", "-w", "/nowhere", "node1", "--", "pwd")
    assert (nowhere.returncode, nowhere.stderr) == (127, "lab.py: node1: /nowhere: No such file or directory\n")
    environment = user.good("exec", "node1", "--", "env")
    # Nothing of the caller's own comes along unasked.
    assert "HOPLAB_TEST_WORD" not in environment


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signals_are_passed_on(user, number):
    script = f"trap 'echo caught; exit 9' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.02; done"
    running = user.start("exec", "node1", "--", "sh", "-c", script, stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(number)
    assert (running.stdout.read(), running.wait(10)) == ("caught\n", 9)
    running.stdout.close()


def test_a_caller_that_is_killed_takes_its_program_along(user):
    running = user.start(
        "exec", "node1", "--", "sh", "-c", "echo $$; exec sleep 1000", stdout=subprocess.PIPE, text=True
    )
    inside = running.stdout.readline().strip()
    running.kill()
    running.wait()
    running.stdout.close()

    def gone():
        return user("exec", "node1", "--", "test", "-e", f"/proc/{inside}").returncode == 1

    until(gone, "the program to end")


def test_wrong_names_are_exit_2_and_name_the_nearest(user):
    for target, told in (
        ("nod1", "Did you mean node1?"),
        ("pod/x", "pods there: a, b, c, d"),
        ("svc/a", "nothing runs"),
    ):
        done = user("exec", target, "--", "true")
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert user("exec", "-t", "-i", "node1", "--", "true", stdin=subprocess.DEVNULL).returncode == 2


def test_a_shell_on_a_terminal(user):
    """Its own controlling terminal and job control, the caller's window size, Ctrl-C for what runs in it."""
    terminal = user.at_a_terminal("shell", "pod/d", rows=33, columns=101)
    before = termios.tcgetattr(terminal.child_fd)
    prompt = "root@d:/# "
    terminal.expect_exact(prompt)
    terminal.sendline("tty; stty size")
    terminal.expect(rb"/dev/pts/\d+\r\n33 101\r\n")
    terminal.expect_exact(prompt)
    terminal.setwinsize(44, 99)
    terminal.sendline("until [ \"$(stty size)\" = '44 99' ]; do :; done; echo $((6 * 6))")
    terminal.expect_exact("36\r\n")
    terminal.expect_exact(prompt)
    # What it says shows that it runs: a Ctrl-C while the shell still starts it would meet nobody.
    terminal.sendline("sh -c 'echo $((6 * 7)); exec sleep 1000'")
    terminal.expect_exact("42\r\n")
    terminal.sendintr()
    terminal.expect_exact(prompt)
    terminal.sendline("exit 5")
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 5
    assert termios.tcgetattr(terminal.child_fd) == before


def test_the_terminal_is_put_back_when_the_caller_is_told_to_end(user):
    terminal = user.at_a_terminal("exec", "-it", "node1", "--", "sh", "-c", "echo $((40+2)); exec sleep 1000")
    before = termios.tcgetattr(terminal.child_fd)
    terminal.expect_exact("42")
    terminal.kill(signal.SIGTERM)
    terminal.expect(pexpect.EOF)
    assert terminal.wait() == 128 + signal.SIGTERM
    assert termios.tcgetattr(terminal.child_fd) == before


def test_a_script_on_standard_input_is_read_by_the_shell(user):
    done = user("shell", "node1", input="hostname\nexit 3\n")
    assert (done.stdout, done.returncode) == ("node1\n", 3)
