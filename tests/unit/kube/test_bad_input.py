"""Bad manifests: exit 2 by one message that names file, line and field; nothing is started, nothing is lost."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.kube.load import load, load_files
from hoplab.kube.problems import ManifestError

ROOT = Path(__file__).resolve().parents[3]

SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: NodePort
  ports:
  - port: 80
    nodePort: 30080
"""


def changed(old, new):
    assert old in SERVICE
    return SERVICE.replace(old, new)


BAD = {
    "unknown field": (changed("    nodePort:", "    nodeport:"), 9, "spec.ports[0].nodeport", "did you mean nodePort?"),
    "wrong type": (changed("port: 80\n", "port: eighty\n"), 8, "spec.ports[0].port", "expected a whole number"),
    "port of 70000": (changed("port: 80\n", "port: 70000\n"), 8, "spec.ports[0].port", "between 1 and 65535"),
    "node port of 70000": (changed("30080", "70000"), 9, "spec.ports[0].nodePort", "between 1 and 65535"),
    "node port of a ClusterIP Service": (changed("NodePort", "ClusterIP"), 9, "spec.ports[0].nodePort", "may not be"),
    "unknown type": (changed("NodePort", "NodPort"), 6, "spec.type", 'supported values: "ClusterIP"'),
    "no name": (changed("  name: web", "  labels: {a: b}"), 3, "metadata.name", "Required value"),
    "a name in capitals": (changed("name: web", "name: Web"), 4, "metadata.name", "a DNS-1035 label must consist of"),
    "no ports": (SERVICE[: SERVICE.index("  ports")], 5, "spec.ports", "Required value"),
    "unknown kind": (changed("kind: Service", "kind: Servce"), 2, "kind", "did you mean Service?"),
    "kind in another version": (changed("v1", "v2"), 1, "apiVersion", "it is in v1"),
    "no kind": (changed("kind: Service\n", ""), 1, "kind", "Required value"),
    "a key twice": (changed("  type: NodePort", "  type: NodePort\n  type: ClusterIP"), 7, "spec.type", "stands twice"),
    "a port twice": (SERVICE + "  - {port: 80, name: b}\n", 10, "spec.ports[1]", "Duplicate value"),
    "two ports without names": (SERVICE + "  - {port: 81}\n", 8, "spec.ports[0].name", "Required value"),
    "a cluster IP that is none": (SERVICE + "  clusterIP: 10.0.0.999\n", 10, "spec.clusterIP", "valid IP address"),
    "a source range that is none": (
        SERVICE.replace("NodePort", "LoadBalancer") + "  loadBalancerSourceRanges: [10.0.0.0]\n",
        10,
        "spec.loadBalancerSourceRanges[0]",
        "valid CIDR",
    ),
    "an affinity timeout of a month": (
        SERVICE + "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 2592000}}\n",
        11,
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "must be greater than 0 and less than 86400",
    ),
    "an external IP of loopback": (SERVICE + "  externalIPs: [127.0.0.1]\n", 10, "spec.externalIPs[0]", "loopback"),
    "a label that is a number": (
        changed("  name: web", "  name: web\n  labels: {a: 1}"),
        5,
        "metadata.labels.a",
        "quote",
    ),
    "no YAML": ("a: b: c", 1, "", "no valid YAML"),
    "a tab": ("\tkind: Service", 1, "", "no valid YAML"),
    "plain words": ("just some words\n", 1, "", "expected a Kubernetes object"),
    "a list": ("- a\n- b\n", 1, "", "expected a Kubernetes object"),
    "empty": ("", 0, "", "empty"),
    "only comments": ("# nothing\n---\n", 0, "", "empty"),
    "a Python object": ("x: !!python/object:os.system {}\n", 1, "", ""),
    "ten thousand lists in each other": ("[" * 10_000, 1, "", "nested deeper"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_manifest_is_told_with_file_line_and_field(name):
    text, line, field, words = BAD[name]
    with pytest.raises(ManifestError) as caught:
        load(text, "service.yaml")
    found = [(problem.line, problem.field) for problem in caught.value.problems]
    assert (line, field) in found or not words
    assert words in str(caught.value)
    assert str(caught.value).startswith("service.yaml")


def test_all_problems_are_told_at_once():
    with pytest.raises(ManifestError) as caught:
        load(changed("port: 80\n", "port: 0\n").replace("name: web", "name: W"), "f.yaml")
    assert [problem.field for problem in caught.value.problems] == ["metadata.name", "spec.ports[0].port"]


def test_two_services_with_one_node_port_name_each_other():
    words = r"f\.yaml:19: spec\.ports\[0\]\.nodePort: .*30080: .* already allocated.* default/web \(f\.yaml:1\)"
    with pytest.raises(ManifestError, match=words):
        load(SERVICE + "---\n" + SERVICE.replace("web", "other"), "f.yaml")


def test_two_nodes_with_one_pod_subnet_are_told_what_would_go_wrong():
    nodes = "".join(
        f"---\napiVersion: v1\nkind: Node\nmetadata: {{name: node{n}}}\nspec: {{podCIDR: {cidr}}}\n"
        for n, cidr in ((1, "10.1.0.0/16"), (2, "10.1.2.0/24"))
    )
    with pytest.raises(ManifestError, match=r"10\.1\.2\.0/24 of node2 overlaps 10\.1\.0\.0/16 of node1"):
        load(nodes, "f.yaml")


def test_a_bomb_is_refused_at_once():
    text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    text += "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    with pytest.raises(ManifestError, match="aliases expanded"):
        load(text, "bomb.yaml")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "found a folder"),
        (lambda path: path.write_text(""), "empty"),
        (lambda path: path.write_text("# " + "x" * 5_000_000), "larger than 4 MB"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "UTF-8"),
    ],
    ids=["missing", "folder", "empty", "5 MB", "not text"],
)
def test_files_that_are_no_manifests(make, words, tmp_path):
    path = tmp_path / "objects.yaml"
    make(path)
    with pytest.raises(ManifestError, match=words):
        load_files([path])


def test_the_command_ends_with_2_and_one_message(tmp_path):
    path = tmp_path / "service.yaml"
    path.write_text(changed("port: 80\n", "port: 70000\n"))
    command = [sys.executable, "-m", "hoplab.cli", "rules", "-f", str(path), "--node", "node1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"lab.py: {path}:8: spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive"
    ]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_loaded_or_refused_properly(text):
    with contextlib.suppress(ManifestError):
        load(text, "any.yaml")


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["Service", "Pod", "Node", "Endpoints", "ReplicationController"]),
    st.dictionaries(
        st.sampled_from(["ports", "selector", "clusterIP", "containers", "replicas", "template"]), JSON_LIKE
    ),
    JSON_LIKE,
)
def test_any_value_in_any_field_is_loaded_or_refused_properly(kind, spec, subsets):
    import json

    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    if kind == "Endpoints":
        document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "subsets": subsets}
    with contextlib.suppress(ManifestError):
        load(json.dumps(document), "any.json")
