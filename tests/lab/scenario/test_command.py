"""`lab.py scenario` as a user and a CI job meet it: exit codes, what is printed where, files that others read."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[3]
TUPLE = {"src", "sport", "dst", "dport"}
HOP = {"node", "in", "out", "before", "after", "ttl_in", "ttl_out", "rewrite", "rules", "frames", "time_ns"}
RULE = {"table", "chain", "rule", "verdict"}


def lab(*arguments, prefix=(), cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*prefix, sys.executable, "-m", "hoplab.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False)


def script(folder, text, manifest=None):
    (folder / "mine.py").write_text(text)
    if manifest is not None:
        (folder / "objects.yaml").write_text(manifest)
    return folder / "mine.py"


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    captures = tmp_path_factory.mktemp("captures")
    junit = captures / "junit.xml"
    done = lab("scenario", "external-lb", "--json", "--junit", junit, "--captures", captures)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return json.loads(done.stdout), captures, junit


def test_the_json_has_every_field_that_was_promised(passed):
    document, captures, _junit = passed
    assert document["version"] == 1
    assert document["scenario"] == "external-lb"
    assert document["passed"] is True
    assert document["seed"] == 7
    assert set(document["timings_s"]) >= {"build", "converge", "probe", "total"}
    assert all(set(check) >= {"name", "passed", "expected", "observed", "evidence"} for check in document["checks"])
    flow = document["flows"][0]
    assert set(flow) >= {"name", "outcome", "protocol", "forward", "reply", "conntrack"}
    for hop in (*flow["forward"], *flow["reply"]):
        assert set(hop) >= HOP
        assert set(hop["before"]) == set(hop["after"]) == TUPLE
        assert all(set(rule) >= RULE for rule in hop["rules"])
        assert hop["frames"]
    assert [hop["node"] for hop in flow["forward"]] == ["client", "lb", "node1", "node2", "pod/d"]
    entry = next(one for one in flow["conntrack"] if one["node"] == "node1")
    assert set(entry["original"]) == set(entry["reply"]) == TUPLE
    assert Path(document["artifacts"]["pcapng"]).parent == captures / "external-lb"
    assert Path(document["artifacts"]["story"]).is_file()
    assert Path(document["artifacts"]["page"]).read_bytes().startswith(b"<!doctype html>")
    assert document["options"]["balancer"] == "hash"
    assert {place["name"] for place in document["topology"]["places"]} >= {"client", "lb", "node1", "pod/d", "nodenet"}
    assert sum(document["spread"][0]["entered"].values()) == document["spread"][0]["flows"]


def test_tshark_reads_the_capture_back(passed):
    document, _captures, _junit = passed
    tshark = shutil.which("tshark")
    assert tshark, "tshark is not installed; `python3 lab.py --setup` installs it"
    fields = ["-e", "frame.number", "-e", "frame.interface_name", "-e", "frame.time_epoch"]
    command = [tshark, "-r", document["artifacts"]["pcapng"], "-T", "fields", *fields]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    seen = {hop_frame for flow in document["flows"] for hop in flow["forward"] for hop_frame in hop["frames"]}
    assert len(rows) >= max(seen)
    assert {"client:eth0", "lb:eth0", "node1:eth0", "node2:eth0", "pod/d:eth0"} <= {row[1] for row in rows}
    times = [row[2] for row in rows]
    assert all(earlier < later for earlier, later in pairwise(times))
    first = document["flows"][0]["forward"][0]["frames"][0]
    assert rows[first - 1][1] == "client:eth0"
    malformed = [tshark, "-r", document["artifacts"]["pcapng"], "-Y", "_ws.malformed or tcp.checksum.status == 0"]
    bad = subprocess.run([*malformed, "-o", "tcp.check_checksum:TRUE"], capture_output=True, text=True, check=True)
    assert bad.stdout == ""


def test_junit_counts_a_case_a_check(passed):
    import xml.etree.ElementTree as ElementTree

    document, _captures, junit = passed
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert suite.get("name") == "external-lb"
    assert len(suite.findall("testcase")) == len(document["checks"])


def test_without_root_it_works_the_same(tmp_path):
    """A process whose user id is not 0 and that has no capability: it must make its own user namespace."""
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    who = subprocess.run([*prefix, "id", "-u"], capture_output=True, text=True, check=False)
    assert who.stdout.strip() == "1000", f"no user namespace to test with: {who.stderr}"
    done = lab("scenario", "external-lb", "-q", "--captures", tmp_path, prefix=prefix)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failed_check_is_exit_1(tmp_path):
    mine = script(
        tmp_path,
        '"""Fails."""\ndef run(lab):\n'
        '    lab.host("client").send_tcp("10.240.0.11", 9, deadline_s=0.2).expect_outcome("accepted")\n',
    )
    done = lab("scenario", mine, "--captures", tmp_path)
    assert done.returncode == 1, done.stderr
    assert "rejected" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


BAD_SCRIPTS = {
    "a syntax error": ('"""x"""\ndef run(lab:\n    pass\n', "mine.py:2"),
    "no run": ('"""x"""\nTOPOLOGY = "cloud"\n', "expected a function run(lab)"),
    "one that raises": ('"""x"""\ndef run(lab):\n    1 / 0\n', "mine.py:3: ZeroDivisionError"),
    "one that fails when it is loaded": ('"""x"""\nimport nothing_of_that_name\n', "mine.py:2: ModuleNotFoundError"),
    "one that exits": ('"""x"""\nimport sys\ndef run(lab):\n    sys.exit(0)\n', "mine.py:4: SystemExit: 0"),
    "one that speaks to the terminal": ('"""x"""\nraise ValueError("\x1b[2J")\n', "mine.py:2: ValueError: \\x1b[2J"),
    "an unknown topology": ('"""x"""\nTOPOLOGY = "clod"\ndef run(lab):\n    pass\n', "did you mean cloud?"),
    "a missing manifest": ('"""x"""\nMANIFESTS = ["gone.yaml"]\ndef run(lab):\n    pass\n', "no file 'gone.yaml'"),
    "an unknown host": ('"""x"""\ndef run(lab):\n    lab.host("clint")\n', "the lab has no 'clint'"),
}


@pytest.mark.parametrize("name", BAD_SCRIPTS)
def test_a_script_that_cannot_be_is_exit_2_with_file_and_line(name, tmp_path):
    text, message = BAD_SCRIPTS[name]
    done = lab("scenario", script(tmp_path, text), "--captures", tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_what_a_script_prints_is_not_in_the_json(tmp_path):
    text = '"""x"""\nimport os\nprint("one")\ndef run(lab):\n    print("two")\n    os.system("echo three")\n'
    done = lab("scenario", script(tmp_path, text), "--json", "--captures", tmp_path)
    assert json.loads(done.stdout)["scenario"] == "mine"
    assert done.stderr.split()[:3] == ["one", "two", "three"]


def test_a_script_that_ends_the_process_has_not_passed(tmp_path):
    text = '"""x"""\nimport os\ndef run(lab):\n    lab.check("x", True, 1, 1)\n    os._exit(0)\n'
    done = lab("scenario", script(tmp_path, text), "-q", "--captures", tmp_path)
    assert done.returncode == 1
    assert "the run was ended before its verdict" in done.stderr


def test_whatever_a_script_hands_to_a_check_the_json_has_the_promised_types(tmp_path):
    text = (
        '"""x"""\ndef run(lab):\n    lab.check("a", [1], None, 7, "one line")\n    lab.check("b", None, (), {}, [3])\n'
    )
    done = lab("scenario", script(tmp_path, text), "--json", "--captures", tmp_path)
    assert done.returncode == 1
    told = [
        {k: check[k] for k in ("passed", "expected", "observed", "evidence")}
        for check in json.loads(done.stdout)["checks"]
    ]
    assert told == [
        {"passed": True, "expected": "None", "observed": "7", "evidence": ["one line"]},
        {"passed": False, "expected": "()", "observed": "{}", "evidence": ["3"]},
    ]


def test_a_script_that_checks_nothing_has_not_passed(tmp_path):
    done = lab("scenario", script(tmp_path, '"""x"""\ndef run(lab):\n    pass\n'), "-q", "--captures", tmp_path)
    assert done.returncode == 1


def test_a_name_with_a_typo_names_the_nearest():
    done = lab("scenario", "external-bl")
    assert done.returncode == 2
    assert "Did you mean external-lb?" in done.stderr


def test_a_pod_on_a_node_that_is_not_there(tmp_path):
    manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  nodeName: node9\n"
    manifest += "  containers: [{name: c, image: nginx}]\n"
    text = '"""x"""\nMANIFESTS = ["objects.yaml"]\ndef run(lab):\n    pass\n'
    done = lab("scenario", script(tmp_path, text, manifest), "--captures", tmp_path)
    assert done.returncode == 2
    assert "no node 'node9'" in done.stderr


def test_an_address_outside_the_nodes_subnet_is_told_with_the_pod_and_the_plugins_words(tmp_path):
    manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {hoplab.dev/ip: 10.9.9.9}}\n"
    manifest += "spec:\n  containers: [{name: c, image: nginx}]\n"
    text = '"""x"""\nMANIFESTS = ["objects.yaml"]\ndef run(lab):\n    pass\n'
    done = lab("scenario", script(tmp_path, text, manifest), "--captures", tmp_path)
    assert done.returncode == 2
    assert "CNI ADD for pod/p: plugin bridge" in done.stderr
    assert "10.9.9.9" in done.stderr


def test_a_captures_folder_that_cannot_be_written_costs_no_verdict(tmp_path):
    (tmp_path / "external-lb").write_text("in the way")
    done = lab("scenario", "external-lb", "-q", "--captures", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout
