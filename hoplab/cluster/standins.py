"""Responders for endpoints that have no pod: who has to answer at an address that a slice only names.

Hand-written EndpointSlices may point anywhere.  For a test of a cluster's network each
of their addresses needs somebody who answers, on the node that the endpoint names, or
else on the node whose pod subnet holds the address, or else outside the cluster.  Pure:
what is wanted follows from the slices alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from hoplab.kube.objects import KubeObject, object_of
from hoplab.kube.types import Container, ContainerPort, EndpointSlice, Node, ObjectMeta, Origin, Pod

STAND_IN = "hoplab.dev/stand-in"
"""Annotation of a pod that the lab made for an endpoint: its address may lie outside its node's pod subnet."""


FOR_AN_ENDPOINT = "an endpoint without a pod"


@dataclass(frozen=True, slots=True)
class StandIn:
    """One address that needs a responder.  `node` '': outside the cluster, behind the client."""

    address: str
    node: str
    ports: tuple[ContainerPort, ...]
    namespace: str
    name: str
    origin: Origin

    def pod(self) -> Pod:
        """The pod that answers there."""
        annotations = {"hoplab.dev/ip": self.address, STAND_IN: FOR_AN_ENDPOINT}
        container = Container("responder", "hoplab/responder", ports=self.ports)
        return Pod(
            ObjectMeta(self.name, self.namespace, annotations=annotations), (container,), self.node, origin=self.origin
        )


def is_stand_in(pod: Pod) -> bool:
    """Whether the lab made this pod itself: its address may lie anywhere."""
    return STAND_IN in pod.meta.annotations


def for_an_endpoint(pod: Pod) -> bool:
    """Whether the lab made this pod for an endpoint, and takes it away with it."""
    return pod.meta.annotations.get(STAND_IN) == FOR_AN_ENDPOINT


def pod_object(pod: Pod) -> KubeObject:
    """A pod of the lab's own as an object, with what it says of name, place, containers and ports."""
    containers = [
        {
            "name": each.name,
            "image": each.image,
            "ports": [
                {"containerPort": port.port, "protocol": port.protocol, **({"name": port.name} if port.name else {})}
                for port in each.ports
            ],
        }
        for each in pod.containers
    ]
    metadata = {"name": pod.meta.name, "namespace": pod.meta.namespace, "annotations": dict(pod.meta.annotations)}
    spec = {"containers": containers, **({"nodeName": pod.node_name} if pod.node_name else {})}
    return object_of({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, pod.origin)


def stand_ins(
    slices: Iterable[EndpointSlice],
    nodes: Iterable[Node],
    pods: Collection[tuple[str, str]],
    taken: Collection[str],
) -> dict[str, StandIn]:
    """By address, the responders that these slices need beside the pods that there are (pure).

    `pods` are (namespace, name) of the cluster's own pods: an endpoint that refers to one
    of them by targetRef has it behind it.  `taken` are addresses that answer already.
    """
    known = {node.name: node for node in nodes}
    found: dict[str, StandIn] = {}
    names: dict[tuple[str, str], str] = {}
    for piece in slices:
        ports = tuple(ContainerPort(port.port, port.protocol, port.name) for port in piece.ports if port.port)
        for endpoint in piece.endpoints:
            for address in endpoint.addresses:
                if piece.address_type == "FQDN" or address in taken:
                    continue
                namespace, _, name = endpoint.target_ref.partition("/")
                if (namespace, name) in pods:
                    continue
                before = found.get(address)
                if before is None:
                    if not name or names.setdefault((namespace, name), address) != address:
                        namespace, name = (
                            piece.meta.namespace,
                            f"endpoint-{address.replace('.', '-').replace(':', '-')}",
                        )
                    before = StandIn(address, "", (), namespace, name, piece.origin)
                node = before.node or (endpoint.node_name if endpoint.node_name in known else "")
                found[address] = replace(before, node=node, ports=tuple(dict.fromkeys((*before.ports, *ports))))
    return {a: one if one.node else replace(one, node=_holder(a, known)) for a, one in found.items()}


def _holder(address: str, nodes: Mapping[str, Node]) -> str:
    """The node whose pod subnet holds the address, '' when none does."""
    return next((node.name for node in nodes.values() if holds(node, address)), "")


def holds(node: Node, address: str) -> bool:
    """Whether one of the node's pod subnets holds the address."""
    ip = ipaddress.ip_address(address)
    networks = (ipaddress.ip_network(cidr, strict=False) for cidr in node.pod_cidrs)
    return any(network.version == ip.version and ip in network for network in networks)
