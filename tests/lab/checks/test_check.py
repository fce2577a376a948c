"""`lab.py check` with real packets: all that a check file may say, in both proxy modes, and that a wrong word fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[3]
HEAD = """
nodes:
- {name: node1, address: 10.240.0.11, addresses: [10.240.1.11], podCIDR: 10.1.1.0/24}
- {name: worker, address: 192.0.2.12, podCIDR: 10.1.2.0/24}
objects:
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: shop}
  spec:
    type: LoadBalancer
    clusterIP: 172.30.0.41
    externalIPs: [192.0.2.99]
    loadBalancerSourceRanges: [203.0.113.0/25, 5.6.7.8/32]
    ports: [{name: http, port: 80, nodePort: 30080}, {name: dns, port: 53, nodePort: 30053, protocol: UDP}]
  status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}]
  endpoints:
  - {addresses: [10.1.1.4], nodeName: node1}
  - {addresses: [10.180.0.4], nodeName: worker}
  - {addresses: [10.1.2.5], conditions: {ready: false}}
- apiVersion: v1
  kind: Service
  metadata: {name: outside}
  spec: {clusterIP: 172.30.0.42, ports: [{port: 80}]}
- apiVersion: v1
  kind: Endpoints
  metadata: {name: outside}
  subsets: [{addresses: [{ip: 198.18.0.9}], ports: [{port: 80}]}]
- apiVersion: v1
  kind: Service
  metadata: {name: empty}
  spec: {clusterIP: 172.30.0.43, ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
"""
ALL = "[10.1.1.4:8080, 10.180.0.4:8080]"
FLOWS = f"""
flows:
- {{name: pod, from: {{address: 10.1.1.99, behind: node1}}, to: 172.30.0.41:80,
    expect: {{endpoints: {ALL}, spread: true, masqueraded: false}}}}
- {{name: by name, from: worker, to: svc/shop/web:80, expect: {{endpoints: {ALL}, masqueraded: true}}}}
- {{name: datagrams, from: node1, to: svc/shop/web:dns/udp,
    expect: {{endpoints: ["10.1.1.4:5353", "10.180.0.4:5353"], masqueraded: true}}}}
- {{name: balancer, from: client, to: 1.2.3.4:80,
    expect: {{endpoints: {ALL}, masqueraded: true, hops: [client, lb, node1, worker, 10.180.0.4]}}}}
- {{name: node port, from: client, to: node1:30080, expect: {{endpoints: {ALL}, masqueraded: true}}}}
- {{name: node of a foreign address, from: client, to: worker:30080, expect: {{endpoints: {ALL}, masqueraded: true}}}}
- {{name: allowed, from: {{address: 5.6.7.8, behind: client}}, to: 1.2.3.4:80, via: node1,
    expect: {{endpoints: {ALL}, masqueraded: true}}}}
- {{name: forbidden, from: {{address: 203.0.113.130, behind: client}}, to: 1.2.3.4:80, via: node1,
    expect: {{outcome: dropped}}}}
- {{name: external IP, from: {{address: 203.0.113.130, behind: client}}, to: 192.0.2.99:80, via: node1,
    expect: {{endpoints: {ALL}, masqueraded: true, hops: [client, node1, 10.1.1.4]}}}}
- {{name: external IP as the network routes it, from: client, to: 192.0.2.99:80,
    expect: {{endpoints: {ALL}, masqueraded: true, hops: [client, lb, node1, 10.1.1.4]}}}}
- {{name: beyond the cluster, from: {{address: 10.1.1.99, behind: node1}}, to: 172.30.0.42:80,
    expect: {{endpoints: ["198.18.0.9:80"], masqueraded: false, hops: ["10.1.1.99", node1, lb, client]}}}}
- {{name: no endpoints, from: node1, to: 172.30.0.43:80, expect: {{outcome: rejected}}}}
- {{name: a datagram that its own node refuses, from: node1, to: 172.30.0.43:53/udp, expect: {{outcome: rejected}}}}
- {{name: nobody, from: {{address: 10.1.1.99, behind: node1}}, to: node1:30099, expect: {{outcome: unhandled}}}}
- {{name: ping, from: {{address: 10.1.1.99, behind: node1}}, to: 10.180.0.4/icmp, expect: {{outcome: accepted}}}}
- after:
  - apply:
      apiVersion: discovery.k8s.io/v1
      kind: EndpointSlice
      metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
      addressType: IPv4
      ports: [{{name: http, port: 8081}}]
      endpoints: [{{addresses: [10.1.1.4]}}]
- {{name: changed, from: node1, to: 172.30.0.41:80, expect: {{endpoints: ["10.1.1.4:8081"]}}}}
- after: [{{delete: {{kind: EndpointSlice, name: web-1, namespace: shop}}}}]
- {{name: deleted, from: node1, to: 172.30.0.41:80, expect: {{outcome: rejected}}}}
"""


def check(*arguments, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hoplab.cli", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120, check=False)


def written(folder, text, name="a.yaml"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_everything_a_file_may_say(mode, tmp_path):
    file = written(tmp_path, HEAD + FLOWS)
    done = check(file, "--proxy-mode", mode, "--json", "--captures", tmp_path, "--junit", tmp_path / "junit.xml")
    document = json.loads(done.stdout)
    assert [(c["name"], c["observed"]) for c in document["checks"] if not c["passed"]] == []
    assert (done.returncode, document["passed"], document["scenario"]) == (0, True, "a")
    assert len(document["flows"]) == 17
    names = [each["name"] for each in document["checks"]]
    assert names[:4] == ["pod: outcome", "pod: endpoints", "pod: spread", "pod: masqueraded"]
    assert Path(document["artifacts"]["pcapng"]).is_file()
    [suite] = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testsuite")
    assert suite.get("name") == "a"
    assert int(suite.get("tests")) == len(names)


NODE_PORT = f"to: node1:30080, expect: {{endpoints: {ALL}, masqueraded: true"
POD = f"expect: {{endpoints: {ALL}, spread: true, masqueraded: false"
DROPPED = "expect: {outcome: dropped}"
WRONG = {
    "another endpoint": ("198.18.0.9:80", "198.18.0.8:80", "beyond the cluster: endpoints"),
    "an endpoint too few": (NODE_PORT, NODE_PORT.replace(ALL, "[10.1.1.4:8080]"), "node port: endpoints"),
    "an endpoint too many": (POD, POD.replace("8080]", "8080, 10.1.2.5:8080]"), "pod: spread"),
    "not masqueraded": (NODE_PORT, NODE_PORT.replace("true", "false"), "node port: masqueraded"),
    "masqueraded": (POD, POD.replace("false", "true"), "pod: masqueraded"),
    "another way": ("hops: [client, node1, 10.1.1.4]", "hops: [client, lb, node1, 10.1.1.4]", "external IP: hops"),
    "accepted": (DROPPED, "expect: {outcome: accepted}", "forbidden: outcome"),
    "rejected": (DROPPED, "expect: {outcome: rejected}", "forbidden: outcome"),
    "unhandled": (DROPPED, "expect: {outcome: unhandled}", "forbidden: outcome"),
    "dropped": ("expect: {outcome: unhandled}", DROPPED, "nobody: outcome"),
}


def spoiled(flows):
    """One flow for each wrong word, named by it: the flow that says it rightly, with that word changed."""
    for name, (right, wrong, failing) in WRONG.items():
        flow = next(flow for flow in flows if right in flow)
        flow_name, _, _check = failing.partition(": ")
        assert flow.startswith(f"{{name: {flow_name},")
        yield flow.replace(right, wrong).replace(flow_name, name, 1)


def test_a_wrong_expectation_fails_and_says_which(tmp_path):
    before_changes = FLOWS.partition("- after:")[0].removeprefix("\nflows:\n- ").rstrip().split("\n- ")
    text = "".join(f"- {flow}\n" for flow in spoiled(before_changes))
    done = check(written(tmp_path, f"{HEAD}flows:\n{text}"), "--json", "--captures", tmp_path)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    expected = [f"{name}: {failing.partition(': ')[2]}" for name, (_, _, failing) in WRONG.items()]
    assert [each["name"] for each in document["checks"] if not each["passed"]] == expected


SMALL = """
objects:
- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.0.0.5, ports: [{port: 80}]}}
flows:
"""


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        ("{name: a, from: nobody, to: svc/web, expect: {outcome: rejected}}", "a.yaml:5: a: from: the lab has no"),
        (
            "{name: a, from: {address: 10.240.0.11, behind: client}, to: svc/web, expect: {outcome: rejected}}",
            "a: from: 10.240.0.11 can't be borrowed: node1 has it",
        ),
        ("{name: a, from: pod/x, to: svc/web, expect: {outcome: rejected}}", "a: from: no single pod is called 'x'"),
        (
            "{name: a, from: client, to: svc/wob, expect: {outcome: rejected}}",
            "a: to: no Service is called default/wob",
        ),
        ("{name: a, from: client, to: svc/web:81, expect: {outcome: rejected}}", "a: to: Service default/web has no"),
        ("{name: a, from: client, to: svc/web, via: lb, expect: {outcome: rejected}}", "a: via: the lab has no node"),
        ("{name: a, from: node1, to: svc/web, via: node2, expect: {outcome: rejected}}", "a: via: node1 can't choose"),
        ("{name: a, from: client, to: svc/web, expect: {hops: [client, node9]}}", "a: hops: the lab has no 'node9'"),
    ],
)
def test_names_that_are_not_there_are_wrong_input(flow, expected, tmp_path):
    done = check(written(tmp_path, f"{SMALL}- {flow}\n"), "--captures", tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


NAMED = """
nodes:
- {name: node1, address: 10.240.0.11, addresses: ["fd00:10:240::11"], podCIDR: 10.1.1.0/24, podCIDRs: ["fd00:1:1::/64"]}
- {name: node2, address: 10.240.0.12, addresses: ["fd00:10:240::12"], podCIDR: 10.1.2.0/24, podCIDRs: ["fd00:1:2::/64"]}
kubeProxy: {clusterCIDR: "10.1.0.0/16,fd00:1::/32"}
objects:
- apiVersion: v1
  kind: Pod
  metadata: {name: d, labels: {app: d}, annotations: {hoplab.dev/ip: 10.1.2.9}}
  spec: {nodeName: node2, containers: [{name: c, image: agnhost}]}
- apiVersion: v1
  kind: Service
  metadata: {name: d}
  spec:
    type: LoadBalancer
    clusterIP: 10.0.0.5
    selector: {app: d}
    ipFamilyPolicy: RequireDualStack
    ports:
    - {name: a, port: 80, targetPort: 8080, nodePort: 30080}
    - {name: b, port: 53, targetPort: 8081, protocol: UDP}
  status: {loadBalancer: {ingress: [{ip: 198.51.100.9}]}}
flows:
- {name: outside, from: client, to: svc/d:80,
   expect: {endpoints: [10.1.2.9:8080], hops: [client, lb, node1, node2, pod/d]}}
- {name: its UDP port, from: client, to: svc/d/udp, expect: {endpoints: [10.1.2.9:8081], masqueraded: true}}
- {name: by a node, from: client, to: svc/d:80, via: node1, expect: {endpoints: [10.1.2.9:8080], masqueraded: true}}
- {name: inside, from: node1, to: svc/d:80, expect: {endpoints: [10.1.2.9:8080], masqueraded: true}}
- {name: IPv6, from: {address: "fd00:1:1::99", behind: node1}, to: svc/d:80,
   expect: {outcome: accepted, masqueraded: false}}
- {name: a node's IPv6, from: {address: "2001:db8:203::99", behind: client}, to: node1:30080, via: node1,
   expect: {outcome: accepted, masqueraded: true}}
"""


def test_a_name_means_the_address_by_which_its_sender_finds_it(tmp_path):
    done = check(written(tmp_path, NAMED), "--json", "--captures", tmp_path)
    document = json.loads(done.stdout)
    assert [(c["name"], c["observed"]) for c in document["checks"] if not c["passed"]] == []
    sent = [flow["forward"][0]["before"] for flow in document["flows"]]
    assert [(there["dst"], there["dport"]) for there in sent[:4]] == [
        ("198.51.100.9", 80),
        ("198.51.100.9", 53),
        ("10.0.0.5", 80),
        ("10.0.0.5", 80),
    ]
    assert sent[5]["dst"] == "fd00:10:240::11"
    assert ":" in sent[4]["dst"]


def test_the_client_sends_from_its_own_address_beside_borrowed_ones(tmp_path):
    """Neither from what another flow borrows, nor from an endpoint's address for which the client answers."""
    text = """
objects:
- {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}}
- apiVersion: v1
  kind: Endpoints
  metadata: {name: a}
  subsets: [{addresses: [{ip: 198.18.0.9}], ports: [{port: 80}]}]
flows:
- {name: a, from: {address: 203.0.113.77, behind: client}, to: node2:30080, via: node2, expect: {outcome: accepted}}
- {name: b, from: client, to: node1:30080, via: node1, expect: {outcome: accepted}}
"""
    done = check(written(tmp_path, text), "--json", "--captures", tmp_path)
    sources = [flow["forward"][0]["before"]["src"] for flow in json.loads(done.stdout)["flows"]]
    assert (done.returncode, sources) == (0, ["203.0.113.77", "203.0.113.10"])


def test_every_refusal_of_many_at_once_is_seen(tmp_path):
    """A kernel limits how often it tells one host of them, if nobody asks it not to."""
    node = "{name: node1, address: 10.240.0.11, addresses: ['fd00:10:240::11'], podCIDR: 10.1.1.0/24}"
    flows = "".join(
        f"- {{name: '{number} {to}', from: client, to: '{to}:80/udp', via: node1, expect: {{outcome: rejected}}}}\n"
        for number in range(10)
        for to in ("10.0.0.5", "[fd00:10:96::5]")
    )
    service = SMALL.replace(
        "{clusterIP: 10.0.0.5, ports: [{port: 80}]}",
        "{clusterIP: 10.0.0.5, clusterIPs: [10.0.0.5, 'fd00:10:96::5'], ipFamilyPolicy: PreferDualStack,"
        " ports: [{port: 80, protocol: UDP}]}",
    )
    done = check(written(tmp_path, f"nodes: [{node}]\n{service}{flows}"), "--json", "--captures", tmp_path)
    assert [(c["name"], c["observed"]) for c in json.loads(done.stdout)["checks"] if not c["passed"]] == []
    assert done.returncode == 0


def test_nothing_runs_when_one_file_of_several_is_wrong(tmp_path):
    good = written(tmp_path, SMALL + "- {name: a, from: node1, to: svc/web, expect: {outcome: rejected}}\n")
    bad = written(tmp_path, "flows: 1\n", "bad.yaml")
    done = check(good, bad, "--captures", tmp_path / "c")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{bad}:1: flows: expected a list" in done.stderr
    assert not (tmp_path / "c").exists()


def test_a_probe_that_cannot_be_sent_is_a_failed_check(tmp_path):
    flow = "- {name: a, from: client, to: 203.0.113.77:80, expect: {outcome: accepted}}\n"
    done = check(written(tmp_path, SMALL + flow), "--json", "--captures", tmp_path)
    [failed] = json.loads(done.stdout)["checks"]
    assert done.returncode == 1
    assert (failed["name"], failed["passed"]) == ("a: sent", False)
    assert "nobody on eth0 answered for 203.0.113.77" in failed["observed"]


def test_one_node_and_its_client(tmp_path):
    text = """
topology: single
objects:
- {apiVersion: v1, kind: Pod, metadata: {name: a, labels: {app: a}}, spec: {containers: [{name: c, image: nginx}]}}
- {apiVersion: v1, kind: Service, metadata: {name: a},
   spec: {type: NodePort, selector: {app: a}, ports: [{port: 80, nodePort: 30080}]}}
flows:
- {name: in by the node, from: client, to: node1:30080, via: node1,
   expect: {outcome: accepted, masqueraded: true, hops: [client, node1, pod/a]}}
"""
    done = check(written(tmp_path, text), "--json", "--captures", tmp_path)
    assert [c for c in json.loads(done.stdout)["checks"] if not c["passed"]] == []
    assert done.returncode == 0
