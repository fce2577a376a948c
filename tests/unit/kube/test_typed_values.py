"""From documents to typed values: the API's defaults, Endpoints as slices, old versions in today's words."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from hoplab.kube import convert
from hoplab.kube.load import load, load_document
from hoplab.kube.objects import KubeObject
from hoplab.kube.problems import ManifestError
from hoplab.kube.types import Endpoint, EndpointPort, LoadBalancerIngress, ServicePort


def one(text: str) -> KubeObject:
    (obj,) = load(textwrap.dedent(text), "f.yaml").objects
    return obj


def service(spec: str, kind: str = "Service") -> Any:
    return convert.as_service(one(f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: web}}\nspec: {spec}\n"))


def test_a_services_defaults() -> None:
    made = service("{ports: [{port: 80}]}")
    assert (made.type, made.cluster_ips, made.ip_families, made.ip_family_policy) == (
        *("ClusterIP", (), ("IPv4",), "SingleStack"),
    )
    assert made.ports == (ServicePort(80, "TCP", "", 80, 0),)
    assert (made.external_traffic_policy, made.internal_traffic_policy) == ("Cluster", "Cluster")
    assert (made.session_affinity, made.session_affinity_timeout) == ("None", 10800)
    assert made.allocate_load_balancer_node_ports is True


def test_the_defaults_are_in_the_document_as_kubectl_would_show_them() -> None:
    obj = one(
        """\
        apiVersion: v1
        kind: Service
        metadata: {name: web, labels: {a: }}
        spec: {type: LoadBalancer, ports: [{port: 80}], selector: null, sessionAffinity: ClientIP}
        status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
        """
    )
    assert obj.document == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "labels": {"a": ""}},
        "spec": {
            "type": "LoadBalancer",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "externalTrafficPolicy": "Cluster",
            "internalTrafficPolicy": "Cluster",
            "allocateLoadBalancerNodePorts": True,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}},
    }
    assert obj.meta.labels == {"a": ""}
    assert convert.as_service(obj).load_balancer_ingress == (LoadBalancerIngress("192.0.2.1", "VIP"),)


def test_everything_a_service_can_say() -> None:
    made = service(
        "{type: LoadBalancer, clusterIP: 10.0.0.5, externalIPs: [192.0.2.9], loadBalancerIP: 192.0.2.1,"
        " loadBalancerSourceRanges: [' 10.0.0.0/8 '], externalTrafficPolicy: Local, internalTrafficPolicy: Local,"
        " healthCheckNodePort: 30100, sessionAffinity: ClientIP, allocateLoadBalancerNodePorts: false,"
        " sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}, publishNotReadyAddresses: true,"
        " trafficDistribution: PreferClose, loadBalancerClass: example.com/lb, selector: {app: web},"
        " ports: [{port: 53, protocol: UDP, name: dns, targetPort: dns-port, nodePort: 30053, appProtocol: dns}]}"
    )
    assert made.cluster_ips == ("10.0.0.5",)
    assert made.ports == (ServicePort(53, "UDP", "dns", "dns-port", 30053, "dns"),)
    assert (made.external_ips, made.load_balancer_ip) == (("192.0.2.9",), "192.0.2.1")
    assert made.load_balancer_source_ranges == ("10.0.0.0/8",)
    assert (made.external_traffic_policy, made.internal_traffic_policy) == ("Local", "Local")
    assert (made.health_check_node_port, made.session_affinity_timeout) == (30100, 60)
    assert (made.publish_not_ready_addresses, made.traffic_distribution) == (True, "PreferClose")
    assert (made.load_balancer_class, made.allocate_load_balancer_node_ports) == ("example.com/lb", False)
    assert made.selector == {"app": "web"}


@pytest.mark.parametrize(
    ("spec", "families", "policy"),
    [
        ("{ports: [{port: 80}], clusterIP: 'fd00::1'}", ("IPv6",), "SingleStack"),
        ("{ports: [{port: 80}], ipFamilies: [IPv6]}", ("IPv6",), "SingleStack"),
        (
            "{ports: [{port: 80}], ipFamilies: [IPv6], ipFamilyPolicy: RequireDualStack}",
            ("IPv6", "IPv4"),
            "RequireDualStack",
        ),
        ("{ports: [{port: 80}], ipFamilyPolicy: PreferDualStack}", ("IPv4", "IPv6"), "PreferDualStack"),
        ("{clusterIP: None, selector: {a: b}}", ("IPv4",), "SingleStack"),
        ("{clusterIP: None}", ("IPv4", "IPv6"), "RequireDualStack"),
        ("{type: ExternalName, externalName: example.com}", (), "SingleStack"),
    ],
)
def test_families(spec: str, families: tuple[str, ...], policy: str) -> None:
    made = service(spec)
    assert (made.ip_families, made.ip_family_policy) == (families, policy)


def test_an_endpoint_slice_with_the_meaning_of_what_is_not_said() -> None:
    obj = one(
        """\
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: web-abc, namespace: ns1, labels: {kubernetes.io/service-name: web}}
        addressType: IPv4
        ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]
        endpoints:
        - {addresses: [10.1.1.1]}
        - {addresses: [10.1.1.2], conditions: {ready: false}}
        - {addresses: [10.1.1.3], nodeName: node1, zone: a,
           conditions: {ready: false, serving: true, terminating: true}}
        - {addresses: [10.1.1.4], hints: {forZones: [{name: b}], forNodes: [{name: node2}]},
           targetRef: {kind: Pod, name: d, namespace: ns1}}
        """
    )
    (made,) = convert.as_endpoint_slices(obj)
    assert (made.service, made.address_type, made.meta.namespace) == ("web", "IPv4", "ns1")
    assert made.ports == (EndpointPort(80, "TCP", "http"), EndpointPort(53, "UDP", "dns"))
    assert made.endpoints == (
        Endpoint(("10.1.1.1",)),
        Endpoint(("10.1.1.2",), ready=False, serving=False),
        Endpoint(("10.1.1.3",), ready=False, serving=True, terminating=True, node_name="node1", zone="a"),
        Endpoint(("10.1.1.4",), zone_hints=("b",), node_hints=("node2",), target_ref="ns1/d"),
    )


def test_endpoints_become_a_slice_for_each_subset_and_family() -> None:
    obj = one(
        """\
        apiVersion: v1
        kind: Endpoints
        metadata: {name: web}
        subsets:
        - addresses: [{ip: 10.1.1.1, nodeName: node1}, {ip: 'fd00::1'}]
          notReadyAddresses: [{ip: 10.1.1.2}]
          ports: [{port: 80}]
        - addresses: [{ip: 10.1.1.9}]
          ports: [{port: 81}]
        """
    )
    made = convert.as_endpoint_slices(obj)
    assert [(each.address_type, each.service, each.ports[0].port) for each in made] == [
        ("IPv4", "web", 80),
        ("IPv6", "web", 80),
        ("IPv4", "web", 81),
    ]
    assert made[0].endpoints == (
        Endpoint(("10.1.1.1",), node_name="node1"),
        Endpoint(("10.1.1.2",), ready=False, serving=False),
    )
    assert len({each.meta.name for each in made}) == 3
    assert all(each.meta.labels["kubernetes.io/service-name"] == "web" for each in made)


def test_a_node() -> None:
    node = convert.as_node(
        one(
            """\
            apiVersion: v1
            kind: Node
            metadata: {name: node1, labels: {topology.kubernetes.io/zone: a}}
            spec: {podCIDR: 10.1.1.0/24}
            status: {addresses: [{type: InternalIP, address: 10.240.0.11}, {type: Hostname, address: node1}]}
            """
        )
    )
    assert (node.name, node.addresses, node.pod_cidrs, node.zone) == ("node1", ("10.240.0.11",), ("10.1.1.0/24",), "a")


def test_a_pod_and_its_defaults() -> None:
    obj = one(
        """\
        apiVersion: v1
        kind: Pod
        metadata: {name: a, annotations: {hoplab.dev/ip: 10.1.1.7}}
        spec:
          nodeName: node1
          hostname: web-0
          subdomain: web
          containers:
          - name: web
            image: example.com:5000/web
            command: [serve]
            args: ["80"]
            env: [{name: A, value: b}]
            ports: [{containerPort: 80, name: http}]
            readinessProbe: {httpGet: {port: http}}
        """
    )
    pod = convert.as_pod(obj)
    assert (pod.node_name, pod.requested_ip, pod.termination_grace_period) == ("node1", "10.1.1.7", 30)
    assert (pod.hostname, pod.subdomain) == ("web-0", "web")
    (container,) = pod.containers
    assert (container.command, container.args, container.env) == (("serve",), ("80",), {"A": "b"})
    assert container.document["imagePullPolicy"] == "Always"
    assert container.document["readinessProbe"] == {
        "httpGet": {"port": "http", "path": "/", "scheme": "HTTP"},
        **{"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
    }


def test_a_pod_may_ask_for_no_grace() -> None:
    spec = "{terminationGracePeriodSeconds: 0, containers: [{name: a, image: 'i:1'}]}"
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {spec}"
    pod = convert.as_pod(one(text))
    assert pod.termination_grace_period == 0
    assert pod.containers[0].document["imagePullPolicy"] == "IfNotPresent"


TEMPLATE = "template: {metadata: {labels: {app: a}}, spec: {containers: [{name: a, image: i}]}}"


@pytest.mark.parametrize(
    ("version", "kind", "spec", "replicas"),
    [
        ("v1", "ReplicationController", f"{{{TEMPLATE}}}", 1),
        ("apps/v1", "Deployment", f"{{replicas: 0, selector: {{matchLabels: {{app: a}}}}, {TEMPLATE}}}", 0),
        ("apps/v1", "ReplicaSet", f"{{replicas: 3, selector: {{matchLabels: {{app: a}}}}, {TEMPLATE}}}", 3),
        ("apps/v1", "StatefulSet", f"{{selector: {{matchLabels: {{app: a}}}}, {TEMPLATE}}}", 1),
        ("apps/v1beta2", "DaemonSet", f"{{selector: {{matchLabels: {{app: a}}}}, {TEMPLATE}}}", 1),
        ("extensions/v1beta1", "Deployment", f"{{rollbackTo: {{revision: 0}}, {TEMPLATE}}}", 1),
        ("extensions/v1beta1", "DaemonSet", f"{{templateGeneration: 1, {TEMPLATE}}}", 1),
    ],
)
def test_workloads(version: str, kind: str, spec: str, replicas: int) -> None:
    made = convert.as_workload(one(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: w}}\nspec: {spec}\n"))
    assert (made.kind, made.replicas, made.selector) == (kind, replicas, {"app": "a"})
    assert made.template.meta.labels == {"app": "a"}


def test_an_old_endpoint_slice_had_its_place_in_topology() -> None:
    text = """\
        apiVersion: discovery.k8s.io/v1beta1
        kind: EndpointSlice
        metadata: {name: a}
        addressType: IPv4
        endpoints:
        - addresses: [10.1.1.1]
          topology: {kubernetes.io/hostname: node1, topology.kubernetes.io/zone: z, rack: "7"}
        """
    obj = one(text)
    (made,) = convert.as_endpoint_slices(obj)
    assert (made.endpoints[0].node_name, made.endpoints[0].zone) == ("node1", "z")
    assert obj.document["endpoints"][0]["deprecatedTopology"]["rack"] == "7"
    with pytest.raises(ManifestError, match=r"f\.yaml:7: endpoints\[0\]\.topology\[kubernetes\.io/hostname\]: Invalid"):
        one(text.replace("node1", "Node_1"))


def test_lists_are_opened() -> None:
    loaded = load(
        textwrap.dedent(
            """\
            apiVersion: v1
            kind: List
            items:
            - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
            - apiVersion: v1
              kind: List
              items:
              - apiVersion: v1
                kind: ConfigMap
                metadata: {name: b}
            ---
            apiVersion: v1
            kind: ConfigMapList
            metadata: {resourceVersion: "7"}
            items:
            - metadata: {name: c}
            """
        ),
        "f.yaml",
    )
    assert [(obj.meta.name, obj.origin.line) for obj in loaded.objects] == [("a", 4), ("b", 8), ("c", 16)]
    with pytest.raises(ManifestError, match=r"f\.yaml:7: metadata\.name: "):
        load(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    name: A",
            "f.yaml",
        )
    with pytest.raises(ManifestError, match=r"f\.yaml:3: items: expected a list, found a string"):
        load("apiVersion: v1\nkind: List\nitems: none", "f.yaml")


def test_objects_that_were_parsed_already() -> None:
    data = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}
    obj = load_document(data, "check.yaml", 12)
    assert str(obj.origin) == "check.yaml:12"
    assert "namespace" not in data["metadata"]  # type: ignore[operator]
    bad = {**data, "spec": {"ports": [{"port": 0}]}}
    with pytest.raises(ManifestError, match=r"^check\.yaml:12: spec\.ports\[0\]\.port: Invalid value: 0: "):
        load_document(bad, "check.yaml", 12)


def test_objects_that_share_an_anchor_do_not_share_what_is_filled_in() -> None:
    text = """\
        apiVersion: v1
        kind: List
        items:
        - apiVersion: v1
          kind: Service
          metadata: {name: a}
          spec: {ports: &ports [{port: 80}]}
        - apiVersion: v1
          kind: Service
          metadata: {name: b}
          spec: {ports: *ports}
        """
    first, second = load(textwrap.dedent(text), "f.yaml").objects
    assert first.document["spec"]["ports"] == second.document["spec"]["ports"]
    assert first.document["spec"]["ports"][0] is not second.document["spec"]["ports"][0]
