"""`lab.py rules`: what is printed where, and which addresses stand in it."""

import pytest

from hoplab.cli.main import run
from tests.unit.cli.calls import ROOT

SERVICES = str(ROOT / "scenarios" / "manifests" / "services-a-b.yaml")

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIP: 10.0.0.80, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx}]}
---
apiVersion: v1
kind: Pod
metadata: {name: fixed, labels: {app: web}, annotations: {hoplab.dev/ip: 10.1.1.2}}
spec: {nodeName: node1, containers: [{name: web, image: nginx}]}
"""


@pytest.fixture
def web(tmp_path):
    (tmp_path / "web.yaml").write_text(WEB)
    return str(tmp_path / "web.yaml")


def destinations(text):
    return sorted(word.partition(":")[0] for line in text.splitlines() for word in line.split() if word.endswith(":80"))


def test_the_text_alone_is_on_standard_output(capsys):
    assert run(["rules", "-f", SERVICES, "--node", "node1"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("*filter\n")
    assert told.out.endswith("COMMIT\n")
    assert "are foretold" in told.err


def test_the_same_seed_gives_the_same_text(capsys):
    texts = []
    for seed in ("7", "7", "8"):
        run(["rules", "-f", SERVICES, "--node", "node1", "--seed", seed])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_nftables_mode(capsys):
    assert run(["rules", "-f", SERVICES, "--node", "node2", "--mode", "nftables"]) == 0
    assert "table ip kube-proxy" in capsys.readouterr().out


def test_kubernetes_1_7_has_no_nftables_mode(capsys):
    assert run(["rules", "-f", SERVICES, "--node", "node1", "--mode", "nftables", "--kubernetes", "1.7"]) == 2
    assert "no nftables mode" in capsys.readouterr().err


def test_pods_get_the_first_free_addresses_of_their_nodes(web, capsys):
    assert run(["rules", "-f", web, "--node", "node1"]) == 0
    found = destinations(capsys.readouterr().out)
    assert len(found) == 4
    assert found.count("10.1.1.2") == 1, "the fixed pod's address is nobody else's"
    assert {address.rpartition(".")[0] for address in found} == {"10.1.1", "10.1.2"}


def test_endpoints_are_taken_as_written(tmp_path, capsys):
    (tmp_path / "all.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 5432}]}\n---\n"
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: db}\n"
        "subsets: [{addresses: [{ip: 192.0.2.5}], ports: [{port: 5432}]}]\n"
    )
    assert run(["rules", "-f", str(tmp_path / "all.yaml"), "--node", "node1"]) == 0
    told = capsys.readouterr()
    assert "--to-destination 192.0.2.5:5432" in told.out
    assert told.err == ""


def test_the_manifests_own_nodes(tmp_path, web, capsys):
    (tmp_path / "nodes.yaml").write_text(
        "apiVersion: v1\nkind: Node\nmetadata: {name: alpha}\nspec: {podCIDR: 10.9.0.0/24}\n"
        "status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n"
    )
    (tmp_path / "web.yaml").write_text(WEB.replace("nodeName: node1", "nodeName: alpha"))
    assert run(["rules", "-f", web, "-f", str(tmp_path / "nodes.yaml"), "--node", "alpha"]) == 0
    assert destinations(capsys.readouterr().out) == ["10.1.1.2", "10.9.0.2", "10.9.0.3", "10.9.0.4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rules", "--node", "node1"], "Missing option '-f'"),
        (["rules", "-f", SERVICES], "Missing option '--node'"),
        (["rules", "-f", SERVICES, "--node", "node3"], "no node is called 'node3'; there are node1, node2"),
        (["rules", "-f", "/no/such.yaml", "--node", "node1"], "/no/such.yaml: no such file"),
        (["rules", "-f", "/", "--node", "node1"], "found a folder"),
    ],
)
def test_a_wrong_call_is_exit_2_and_prints_no_rule(arguments, message, capsys):
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
