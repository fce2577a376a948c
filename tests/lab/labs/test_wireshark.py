"""Wireshark's side of a running lab and of a run: extcap, names in a live capture, and `lab.py wireshark`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.labs.labtool import MANIFESTS, ROOT, User
from tests.waiting import until

pytestmark = pytest.mark.lab

STRICT = [word for kind in ("tcp", "udp", "ip") for word in ("-o", f"{kind}.check_checksum:TRUE")]


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    someone = User(tmp_path_factory.mktemp("sharks") / "run")
    someone.good("up", "--detach", "-f", MANIFESTS / "services-a-b.yaml")
    yield someone
    someone.good("down")
    until(lambda: not someone.processes(), "the end of everything that was started")


@pytest.fixture(scope="module")
def at_home(user):
    """The environment of somebody whose Wireshark knows the lab."""
    home = user.runtime.parent / "home"
    home.mkdir()
    # Also for the pipes through which an extcap program hands over its frames.
    environment = {**user.environment, "HOME": str(home), "TMPDIR": str(home)}
    environment.pop("XDG_CONFIG_HOME", None)
    installed = run([*user.command("wireshark", "--install-only")], environment)
    assert installed.returncode == 0, installed.stderr
    return environment


def run(command, environment, **options):
    given = {"capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run(command, env=environment, cwd=ROOT, check=False, **given)


def fields(path, *names, more=()):
    asked = [word for name in names for word in ("-e", name)]
    done = run(["tshark", "-r", str(path), *more, "-T", "fields", *asked], None)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_wireshark_lists_the_interfaces_of_running_labs(at_home):
    listed = run(["tshark", "-D"], at_home).stdout
    assert "hoplab-lab (hoplab: lab all interfaces)" in listed
    for place in ("client:eth0", "node1:eth0", "node2:cni0", "pod/d:eth0"):
        assert f"hoplab-lab:{place} (hoplab: lab {place})" in listed
    assert ":lo " not in listed


def test_wireshark_captures_from_one_interface_of_a_lab(user, at_home, tmp_path):
    path = tmp_path / "one.pcapng"
    rows = captured(user, at_home, path, "hoplab-lab:pod/d:eth0", 5)
    assert {row[0] for row in rows} == {"pod/d:eth0"}
    assert "80" in {port for row in rows for port in row[2].split(",")}


def test_wireshark_captures_a_whole_lab_with_its_names(user, at_home, tmp_path):
    path = tmp_path / "all.pcapng"
    rows = captured(user, at_home, path, "hoplab-lab", 60)
    assert len({row[0] for row in rows}) > 5
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)


def captured(user, environment, path, interface, count):
    """Frames that tshark took from an interface while the client asked a Service, until it had enough."""
    command = ["tshark", "-q", "-i", interface, "-c", str(count), "-w", str(path)]
    sharks = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: path.exists() and path.stat().st_size > 0, "tshark to begin", 30)
        until(lambda: _asked(user) and sharks.poll() is not None, "tshark to have enough", 40)
    finally:
        sharks.kill()
        said = sharks.communicate()[1]
    assert sharks.returncode == 0, said
    return fields(path, "frame.interface_name", "frame.time_epoch", "tcp.port", more=("-c", str(count)))


def _asked(user):
    return user("exec", "client", "--", "curl", "-sf", "http://198.51.100.11/").returncode == 0


def test_what_the_extcap_program_is_not_asked_well_it_says(user, tmp_path):
    assert user("extcap").returncode == 2
    assert "expected hoplab-LAB" in user("extcap", "--extcap-interface", "eth0", "--extcap-dlts").stderr
    assert user.good("extcap", "--extcap-interface", "hoplab-lab", "--extcap-dlts").startswith("dlt {number=1}")
    assert "--places" in user.good("extcap", "--extcap-interface", "hoplab-lab", "--extcap-config")
    told = user.good("extcap", "--extcap-interface", "hoplab-lab", "--extcap-capture-filter", "port 80")
    assert "use a display filter" in told
    gone = user("extcap", "--capture", "--extcap-interface", "hoplab-gone", "--fifo", tmp_path / "x")
    assert (gone.returncode, "no lab is called 'gone'" in gone.stderr) == (2, True)
    odd = user("extcap", "--capture", "--extcap-interface", "hoplab-lab", "--fifo", tmp_path / "x", "--places", "nod1")
    assert (odd.returncode, "Did you mean node1?" in odd.stderr) == (2, True)


def test_a_capture_in_a_running_lab_has_names(user, tmp_path):
    path = tmp_path / "named.pcapng"
    running = user.start("capture", "client", "pod/d", "-w", path, "-c", "20", stderr=subprocess.DEVNULL)
    until(lambda: path.exists() and path.stat().st_size > 0, "the capture to begin")
    until(lambda: _asked(user) and running.poll() is not None, "twenty frames")
    rows = fields(path, "ip.src_host", "ip.dst_host", more=("-NnN",))
    assert {"client", "svc/service-b", "pod/d"} <= {name for row in rows for name in row}


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A real run, whose files are read by Wireshark's tools."""
    captures = tmp_path_factory.mktemp("captures")
    command = [sys.executable, "-m", "hoplab.cli", "scenario", "external-lb", "-q", "--captures", str(captures)]
    done = run(command, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return captures / "external-lb"


def test_a_real_runs_file_has_every_frame_that_was_seen_in_order_and_none_is_bad(left):
    document = json.loads((left / "run.json").read_text())
    told = run(["capinfos", "-M", "-c", "-o", "-k", str(left / "run.pcapng")], None).stdout
    title = f"hoplab scenario external-lb: passed, {len(document['checks'])} of {len(document['checks'])} checks hold"
    (about,) = [line for line in told.splitlines() if title in line]
    seen = int(about.rpartition("; ")[2].removesuffix(" frames seen"))
    checksums = ("tcp.checksum.status", "ip.checksum.status", "udp.checksum.status")
    names = ("frame.number", "frame.time_delta", *checksums, "_ws.malformed", "frame.cap_len")
    rows = fields(left / "run.pcapng", *names, more=STRICT)
    assert len(rows) == seen > 1000
    assert min(float(row[1]) for row in rows) >= 0
    for checked in (2, 3, 4):
        # 0 is bad, 1 is good; of a packet that an ICMP error quotes there is too little to tell (2).
        assert {part for row in rows for part in row[checked].split(",")} <= {"", "1", "2"}
        assert any(row[checked] == "1" for row in rows)
    assert not [row for row in rows if row[5]]
    assert "Strict time order:   True" in told
    assert f"Number of packets:   {seen}" in told or f"{seen // 1000} k" in told
    # Nothing but headers is around the frames: 32 bytes of the block, flags and padding, and what comments need.
    size, kept = (
        (left / "run.pcapng").stat().st_size,
        sum(int(r[0]) for r in fields(left / "run.pcapng", "frame.cap_len")),
    )
    assert size < kept + 50 * seen + 150_000


def test_the_last_run_is_opened_with_its_profile_and_where_there_is_no_wireshark_that_is_said(left, at_home, tmp_path):
    command = [sys.executable, "-m", "hoplab.cli", "wireshark", str(left), "--flow", "2"]
    programs = tmp_path / "bin"
    programs.mkdir()
    none = run(command, {**at_home, "PATH": str(programs)})
    assert none.returncode == 3
    assert "sudo apt-get install wireshark" in none.stderr
    line = none.stderr.partition("in this terminal: ")[2].strip()
    shown = run(["sh", "-c", line], at_home)
    assert shown.returncode == 0, shown.stderr
    assert "flow 2: SYN, hop 1 of 4: client" in shown.stdout or "flow 2: SYN, hop 1 of 5: client" in shown.stdout
    assert "flow 1:" not in shown.stdout
    # A stand-in for the window: it notes how it was called, and from which folder it would read its profile.
    (programs / "wireshark").write_text(f'#!/bin/sh\nprintf "%s\\n" "$HOME" "$@" > {tmp_path}/called\n')
    (programs / "wireshark").chmod(0o755)
    there = {**at_home, "PATH": f"{programs}:{os.environ['PATH']}", "WAYLAND_DISPLAY": ""}
    dark = run(command, {**there, "DISPLAY": ""})
    assert (dark.returncode, "no screen here" in dark.stderr) == (3, True)
    assert run(command, {**there, "DISPLAY": ":0"}).returncode == 0
    called = (tmp_path / "called").read_text().splitlines()
    assert called == [
        at_home["HOME"],
        "-C",
        "hoplab",
        "-r",
        str(left / "run.pcapng"),
        "-Y",
        'frame.comment contains "flow 2:"',
    ]


def test_by_sudo_the_profile_is_the_callers(user, tmp_path):
    """In a user namespace where this process is root and another user's number is there, too."""
    if os.geteuid() != 0:
        pytest.skip("needs a second user, whom only root can become")
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    passwd = tmp_path / "passwd"
    passwd.write_text(f"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::{home}:/bin/sh\n")
    inside = f"mount --bind {passwd} /etc/passwd && exec {' '.join(user.command('wireshark', '--install-only'))}"
    command = ["unshare", "--mount", "sh", "-c", inside]
    done = run(command, {**user.environment, "SUDO_UID": "65534", "SUDO_GID": "65534", "HOME": "/root"})
    assert done.returncode == 0, done.stderr
    made = list(home.rglob("*"))
    assert {"preferences", "colorfilters", "hoplab"} <= {path.name for path in made}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(65534, 65534)}
    # A link that leads to where only root may write leads nowhere.
    shutil.rmtree(home / ".config")
    (home / ".config").symlink_to("/root")
    refused = run(command, {**user.environment, "SUDO_UID": "65534", "HOME": "/root"})
    assert (refused.returncode, "can't be written" in refused.stderr) == (3, True)


def test_wrong_calls_are_exit_2(user, left):
    assert "there is no run of that name" in user("wireshark", "no-such-run").stderr
    assert user("wireshark", left, "--flow", "99").returncode == 2
    assert user("wireshark", left, "--flow", "1", "--all").returncode == 2
