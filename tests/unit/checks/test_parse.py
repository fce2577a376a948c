"""Check files as text: what they come to, and every fault told with file, line and field."""

from __future__ import annotations

import textwrap

import pytest

from hoplab.checks.parse import parse, read_all
from hoplab.checks.spec import Expect, Key, Source, Target
from hoplab.checks.targets import target
from hoplab.dataplane.config import Conntrack
from hoplab.kube.load import load_files
from hoplab.kube.problems import ManifestError

WHOLE = """
topology: cloud
nodes:
- {name: node1, address: 10.240.0.11, addresses: [10.240.1.11], podCIDR: 10.1.1.0/24}
- {name: worker, address: 10.240.0.12, podCIDR: 10.1.2.0/24, labels: {topology.kubernetes.io/zone: b}}
kubeProxy: {mode: nftables, masqueradeAll: true, clusterCIDR: "", nodePortAddresses: [10.240.0.0/24]}
balancer: {algorithm: round-robin, mode: passthrough}
objects:
- apiVersion: v1
  kind: Service
  metadata: {name: svc1, namespace: ns1}
  spec: {clusterIP: 172.30.0.41, ports: [{port: 80}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: svc1-abc, namespace: ns1, labels: {kubernetes.io/service-name: svc1}}
  addressType: IPv4
  ports: [{name: "", port: 80}]
  endpoints: [{addresses: [10.1.2.4]}]
flows:
- name: from outside
  from: {address: 203.0.113.130, behind: client}
  to: 172.30.0.41:80/tcp
  via: node1
  expect: {endpoints: [10.1.2.4:80], spread: true, masqueraded: true, hops: [client, node1]}
- after:
  - delete: {kind: EndpointSlice, name: svc1-abc, namespace: ns1}
- name: rejected then
  from: node1
  to: svc/ns1/svc1:80
  expect: {outcome: rejected}
"""


def read(text, file="checks/a.yaml"):
    return parse(textwrap.dedent(text), file, load_files)


def faults(text):
    with pytest.raises(ManifestError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def test_what_is_null_is_not_given():
    nothing = "{mode: null, clusterCIDR: null, masqueradeBit: null, localhostNodePorts: null, conntrack: null}"
    flow = "flows: [{name: a, from: client, to: 'node1:80', expect: {outcome: unhandled}}]"
    assert read(f"kubeProxy: {nothing}\n{flow}").options.proxy == read(flow).options.proxy


def test_a_node_of_ipv6_has_ipv4_beside():
    file = read("""
        nodes:
        - {name: a, address: "fd00:10:240::11", podCIDR: "fd00:10:1:1::/64"}
        - {name: b, address: "fd00:10:240::12", addresses: [10.240.0.11],
           podCIDR: "fd00:10:1:2::/64", podCIDRs: [10.9.0.0/24]}
        objects:
        - {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}
        - {apiVersion: v1, kind: Service, metadata: {name: t}, spec: {clusterIP: 10.0.0.5, ports: [{port: 80}]}}
        flows: [{name: f, from: a, to: "b:80", expect: {outcome: unhandled}}]
    """)
    first, second = file.options.given_nodes
    assert first.addresses == ("fd00:10:240::11", "10.240.0.12")
    assert first.pod_cidrs == ("10.1.1.0/24", "fd00:10:1:1::/64")
    assert second.addresses == ("fd00:10:240::12", "10.240.0.11")
    assert second.pod_cidrs == ("10.9.0.0/24", "fd00:10:1:2::/64")
    assert file.options.service_cidrs == ("fd00:10:96::/112", "10.0.0.0/16")
    assert [each.spec.get("ipFamilies") for each in file.loaded.objects] == [["IPv6"], None]


def test_kube_proxys_settings():
    given = "minSyncPeriod: 250ms, conntrack: {tcpBeLiberal: true, tcpCloseWaitTimeout: 1m, udpStreamTimeout: 2m30s}"
    config = read(f"kubeProxy: {{{given}}}\nflows: [{FLOW}]").options.proxy
    assert config.min_sync_period_s == 0.25
    assert config.conntrack == Conntrack(tcp_close_wait_timeout_s=60, udp_stream_timeout_s=150, tcp_be_liberal=True)


class TestWhole:
    def test_the_cluster(self):
        options = read(WHOLE).options
        first, second = options.given_nodes
        assert (first.name, first.addresses, first.extra_addresses) == ("node1", ("10.240.0.11",), ("10.240.1.11",))
        assert (second.name, second.zone, second.pod_cidrs) == ("worker", "b", ("10.1.2.0/24",))
        assert (options.algorithm, options.mode) == ("round-robin", "passthrough")
        proxy = options.proxy
        assert (proxy.mode, proxy.masquerade_all, proxy.cluster_cidrs) == ("nftables", True, ())
        assert proxy.node_port_addresses == ("10.240.0.0/24",)
        assert options.client_beside, "a `via` needs the client's second leg"

    def test_the_objects_keep_their_lines(self):
        service, piece = read(WHOLE).loaded.objects
        assert (service.key, service.origin.line) == (("Service", "ns1", "svc1"), 9)
        assert piece.origin.line == 13

    def test_the_steps(self):
        first, second = read(WHOLE).steps
        assert [flow.name for flow in first.flows] == ["from outside"]
        flow = first.flows[0]
        assert flow.source == Source("client", "203.0.113.130")
        assert flow.to == Target("172.30.0.41", 80, "tcp")
        assert flow.expect == Expect("accepted", (("10.1.2.4", 80),), "each", True, ("client", "node1"))
        assert str(flow.place) == "checks/a.yaml:20"
        assert second.delete == (Key("EndpointSlice", "ns1", "svc1-abc"),)
        assert second.flows[0].expect == Expect("rejected")

    def test_the_name_is_the_files(self):
        assert read(WHOLE).name == "a"


class TestDefaults:
    def test_a_file_may_be_small(self):
        file = read('flows: [{name: a, from: client, to: "node1:80", expect: {outcome: unhandled}}]')
        options = file.options
        assert (options.topology, options.nodes, options.given_nodes) == ("cloud", 2, ())
        assert (options.proxy.mode, options.proxy.cluster_cidrs) == ("iptables", ("10.1.0.0/16",))
        assert options.way_out == "routes"
        assert options.stand_ins

    def test_the_single_topology_has_one_node(self):
        file = read('{topology: single, flows: [{name: a, from: client, to: "node1:80", expect: {outcome: rejected}}]}')
        assert file.options.nodes == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node1:32261/tcp", Target("node1", 32261, "tcp")),
        ("10.0.0.5:80", Target("10.0.0.5", 80, "tcp")),
        ("[fd00::1]:53/udp", Target("fd00::1", 53, "udp")),
        ("svc/a", Target("svc/a", 0, "tcp")),
        ("svc/ns1/a:dns/udp", Target("svc/ns1/a", 0, "udp", "dns")),
        ("svc/ns1/a:80", Target("svc/ns1/a", 80, "tcp")),
        ("pod/d:8080/udp", Target("pod/d", 8080, "udp")),
        ("pod/d/icmp", Target("pod/d", 0, "icmp")),
        ("10.1.1.4/icmp", Target("10.1.1.4", 0, "icmp")),
    ],
)
def test_targets(text, expected):
    assert target(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node1",
        ":80",
        "node1:",
        "node1:0",
        "svc/a:",
        "svc/a:0",
        "node1:65536",
        "fd00::1:80",
        "a:80/sctp",
        "a:80/TCP",
        "/icmp",
    ],
)
def test_what_is_no_target(text):
    with pytest.raises(ValueError, match=r"\w"):
        target(text)


FLOW = '{name: a, from: client, to: "node1:80", expect: {outcome: rejected}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected one YAML document, found nothing"),
        (f"flows: [{FLOW}]\n---\nflows: [{FLOW}]", "expected one YAML document, found 2 documents"),
        ("- 1", "expected an object, found a list"),
        ("topology: cloud", "flows: Required value"),
        ("flows: []", "flows: expected at least one flow"),
        (f"flows: [{FLOW}]\nflow: 1", "checks/a.yaml:2: flow: unknown field; did you mean flows?"),
        (f"topology: clout\nflows: [{FLOW}]", "checks/a.yaml:1: topology: there is none of that name"),
        (f"kubeProxy: {{mode: ipvs}}\nflows: [{FLOW}]", "kubeProxy.mode: expected one of iptables, nftables"),
        (f"kubeProxy: {{clusterCIDR: x}}\nflows: [{FLOW}]", "kubeProxy.clusterCIDR: "),
        (f"kubeProxy: {{masqueradeBit: 40}}\nflows: [{FLOW}]", "kubeProxy.masqueradeBit: expected 0 to 31, found 40"),
        (f"kubeProxy: {{minSyncPeriod: 1}}\nflows: [{FLOW}]", "kubeProxy.minSyncPeriod: "),
        (
            f"kubeProxy: {{conntrack: {{udpTimeout: long}}}}\nflows: [{FLOW}]",
            'kubeProxy.conntrack.udpTimeout: expected a duration like "30s"',
        ),
        (f"balancer: {{algorithm: rr}}\nflows: [{FLOW}]", "balancer.algorithm: expected one of hash, round-robin"),
        (
            f"nodes: [{{name: a, address: x, podCIDR: 10.1.1.0/24}}]\nflows: [{FLOW}]",
            "nodes[0].address: expected an IP",
        ),
        (f"nodes: [{{name: a, address: 10.240.0.9, podCIDR: z}}]\nflows: [{FLOW}]", "nodes[0].podCIDR: expected a net"),
        (
            f"nodes: [{{name: a, address: 10.240.0.9, podCIDR: 'fd00:1::/64'}}]\nflows: [{FLOW}]",
            "nodes[0].podCIDR: a node of IPv4 has pods of IPv4; put fd00:1::/64 into podCIDRs",
        ),
        (
            f"nodes: [{{name: lb, address: 10.240.0.9, podCIDR: 10.1.1.0/24}}]\nflows: [{FLOW}]",
            "nodes[0].name: lb is a",
        ),
        (
            f"nodes: [{{name: A, address: 10.240.0.9, podCIDR: 10.1.1.0/24}}]\nflows: [{FLOW}]",
            "nodes[0].name: found 'A'",
        ),
        (
            f"nodes: [{{name: {'a' * 64}, address: 10.240.0.9, podCIDR: 10.1.1.0/24}}]\nflows: [{FLOW}]",
            "nodes[0].name: expected at most 63 characters, as many as a host's name has, found 64",
        ),
        (
            f"nodes: [{{name: a, address: 127.0.0.1, podCIDR: 10.1.1.0/24}}]\nflows: [{FLOW}]",
            "nodes[0].address: expected an address by which everybody finds one machine, found 127.0.0.1",
        ),
        (
            f"nodes: [{{name: a, address: 10.240.0.9, podCIDR: 10.1.1.0/31}}]\nflows: [{FLOW}]",
            "nodes[0].podCIDR: expected room for a bridge and pods, 4 addresses at least, found 10.1.1.0/31",
        ),
        (
            f"nodes: [{{name: a, address: 10.1.1.9, podCIDR: 10.1.1.0/24}}]\nflows: [{FLOW}]",
            "nodes: 10.1.1.9 of a lies in the pod subnet of a",
        ),
        (
            f"kubeProxy: {{kubernetes: '1.7', mode: nftables}}\nflows: [{FLOW}]",
            "kubeProxy.kubernetes: kubernetes 1.7 has no nftables mode",
        ),
        (
            "flows: [{name: a, from: client, to: 'x:1', expect: {endpoints: ['10.1.1.4:80', '10.1.1.4:80']}}]",
            "flows[0].expect.endpoints: 10.1.1.4:80 is there twice",
        ),
        (
            "flows: [{name: a, from: client, to: 'svc/x:80/http', expect: {outcome: rejected}}]",
            "flows[0].to: 'svc/x:80/http': expected a protocol (tcp, udp, icmp), found 'http'",
        ),
        (f"manifests: [nothing.yaml]\nflows: [{FLOW}]", "checks/nothing.yaml: no such file"),
        ("flows: [{name: a}]", "flows[0].from: Required value"),
        (f"flows: [{FLOW}, {FLOW}]", "flows[1].name: a flow of this name is in line 1"),
        ('flows: [{name: a, from: client, to: "node1:80", expect: {}}]', "expect: expected at least one of outcome"),
        (
            'flows: [{name: a, from: client, to: "node1:80", expect: {outcome: acepted}}]',
            "flows[0].expect.outcome: expected one of accepted, rejected, dropped, unhandled, found 'acepted';"
            " did you mean accepted?",
        ),
        (
            'flows: [{name: a, from: client, to: "node1:80", expect: {outcome: dropped, endpoints: ["10.1.1.4:80"]}}]',
            "flows[0].expect.endpoints: a flow that is dropped is answered by no endpoint",
        ),
        (
            'flows: [{name: a, from: client, to: "node1:80", expect: {outcome: accepted, spread: true}}]',
            "flows[0].expect.spread: needs endpoints",
        ),
        (
            'flows: [{name: a, from: client, to: "node1:80", expect: {endpoints: ["10.1.1.4"]}}]',
            "flows[0].expect.endpoints[0]: expected ADDRESS:PORT, found '10.1.1.4'",
        ),
        (
            'flows: [{name: a, from: {address: 1.2.3, behind: client}, to: "node1:80", expect: {outcome: rejected}}]',
            "flows[0].from.address: expected an IP address, found '1.2.3'",
        ),
        (
            f"flows:\n- {FLOW}\n- after:\n  - delete: {{kind: Service, name: b}}",
            "checks/a.yaml:4: flows[1].after[0].delete: Service default/b is not there;"
            " Service objects at this point: none",
        ),
        (f"flows:\n- {FLOW}\n- after: [{{change: 1}}]", "flows[1].after[0]: expected a change: apply or delete"),
    ],
)
def test_faults_are_told(text, expected):
    assert any(expected in fault for fault in faults(text)), faults(text)


def test_all_faults_are_told_at_once_in_order():
    found = faults(
        """
        kubeProxy: {mode: ipvs}
        balancer: {mode: proxies}
        objects:
        - {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 0}]}}
        flows:
        - {name: a, from: client, to: "node1:80", expect: {outcome: rejected}}
        """
    )
    assert [fault.split(":")[1] for fault in found] == ["2", "3", "5"]


def test_two_nodes_with_one_pod_subnet_are_refused():
    [fault] = faults(
        f"""
        nodes:
        - {{name: node1, address: 10.240.0.11, podCIDR: 10.1.0.0/16}}
        - {{name: node2, address: 10.240.0.12, podCIDR: 10.1.2.0/24}}
        flows: [{FLOW}]
        """
    )
    assert "overlaps 10.1.0.0/16 of node1" in fault


def test_a_changed_object_replaces_and_a_clash_is_found():
    service = "{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {clusterIP: %s, ports: [{port: 80}]}}"
    text = f"""
        objects: [{service % ("a", "10.0.0.5")}]
        flows:
        - {FLOW}
        - after: [{{apply: {service % ("a", "10.0.0.6")}}}]
        - after: [{{apply: {service % ("b", "10.0.0.%d")}}}]
        """
    _first, second, third = read(text % 7).steps
    assert [each.meta.name for each in second.apply] == ["a"]
    assert [each.meta.name for each in third.apply] == ["b"]
    [fault] = faults(text % 6)
    assert "provided IP is already allocated" in fault


def test_what_is_applied_and_deleted_in_one_step_leaves_nothing():
    text = f"""
        flows:
        - after:
          - apply: {{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: 80}}]}}}}
          - delete: {{kind: Service, name: a}}
        - {FLOW}
        """
    step = read(text).steps[-1]
    assert step.apply == ()
    assert step.delete == (Key("Service", "default", "a"),)


def test_files_of_equal_names_are_told_apart(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.yaml").write_text(f"flows: [{FLOW}]")
    files = read_all([tmp_path / "x" / "a.yaml", tmp_path / "y" / "a.yaml"], "nftables")
    assert [file.name for file in files] == ["a", "a-2"]
    assert {file.options.proxy.mode for file in files} == {"nftables"}


def test_manifests_lie_beside_the_file(tmp_path):
    (tmp_path / "service.yaml").write_text(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}"
    )
    (tmp_path / "check.yaml").write_text(f"manifests: [service.yaml]\nflows: [{FLOW}]")
    [file] = read_all([tmp_path / "check.yaml"])
    assert [each.key for each in file.loaded.objects] == [("Service", "default", "a")]
