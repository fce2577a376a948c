"""Flows that are there go on, whatever becomes of the rules: none of them loses a byte or a datagram in 200 changes.

A client, a node with kube-proxy, two pods behind it.  Connection tracking decides for packets of known flows, so a
change of rules must never touch them; kube-proxy removes entries of UDP flows to endpoints that went, and only those.
"""

import socket
import threading
from dataclasses import replace

import pytest

from hoplab.kube.types import Endpoint, EndpointPort, EndpointSlice, Node, ObjectMeta, Service, ServicePort
from tests.lab.cluster.small_cluster import PODS, built
from tests.lab.scenario.labrun import in_sandbox

pytestmark = pytest.mark.lab

CHANGES = 200
CLUSTER_IP = "10.96.0.80"
NOBODY = "10.1.1.77"
"""An endpoint whose pod is not there yet: flows that are there must not mind it."""
PORTS = (ServicePort(80, "TCP", "tcp", 8080), ServicePort(53, "UDP", "udp", 5353))
SERVICE = Service(ObjectMeta("web"), cluster_ips=(CLUSTER_IP,), ports=PORTS)


def objects(number):
    """The cluster after so many changes: endpoints and another Service come and go, affinity is switched."""
    both, first = tuple(PODS.values()), (PODS["pod1"],)
    addresses = [both, first, (*both, NOBODY), (*first, NOBODY)][number % 4]
    service = replace(SERVICE, session_affinity="ClientIP" if number % 10 >= 5 else "None")
    services, slices = [service], [endpoint_slice("web", addresses)]
    if number % 3:
        other = Service(ObjectMeta("other"), cluster_ips=("10.96.0.81",), ports=PORTS)
        services, slices = [*services, other], [*slices, endpoint_slice("other", first)]
    return services, slices


def endpoint_slice(name, addresses):
    ports = (EndpointPort(8080, "TCP", "tcp"), EndpointPort(5353, "UDP", "udp"))
    endpoints = tuple(Endpoint((address,), node_name="node1") for address in addresses)
    return EndpointSlice(ObjectMeta(f"{name}-1"), name, "IPv4", endpoints, ports)


def served(spaces):
    """Pods that send back what they get, after their name."""
    for name in PODS:
        with spaces[name].entered():
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            streams = socket.create_server((PODS[name], 8080))
        datagrams.bind((PODS[name], 5353))
        threading.Thread(target=echo_datagrams, args=(datagrams, name), daemon=True).start()
        threading.Thread(target=accept, args=(streams, name), daemon=True).start()


def echo_datagrams(opened, name):
    while True:
        sent, client = opened.recvfrom(100)
        opened.sendto(name.encode() + sent, client)


def accept(opened, name):
    while True:
        connection, _client = opened.accept()
        threading.Thread(target=echo_stream, args=(connection, name), daemon=True).start()


def echo_stream(connection, name):
    while sent := connection.recv(100):
        connection.sendall(name.encode() + sent)


def flow(client, protocol):
    with client.entered():
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    opened.settimeout(3)
    opened.connect((CLUSTER_IP, 53 if protocol == "udp" else 80))
    return opened


def asked(opened, text):
    """Which pod sent this text back, or what came instead."""
    try:
        opened.send(text)
        answer = opened.recv(100)
    except OSError as error:
        return f"{text}: {error}"
    return answer.removesuffix(text).decode() if answer.endswith(text) else f"{text}: {answer}"


def flows_to(client):
    """Two TCP connections to each pod and two UDP flows to the pod that stays; by name, which says the pod."""
    found = {}
    for protocol, wanted in (("tcp", {"pod1": 2, "pod2": 2}), ("udp", {"pod1": 2})):
        while wanted:
            opened = flow(client, protocol)
            pod = asked(opened, b"first")
            assert pod in PODS, pod
            if wanted.get(pod):
                found[f"{protocol} {wanted[pod]} to {pod}"] = opened
                wanted = {name: left for name, left in {**wanted, pod: wanted[pod] - 1}.items() if left}
    return found


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_no_established_flow_loses_anything(mode):
    def inside():
        from hoplab.cluster.proxy import KubeProxy
        from hoplab.dataplane.config import ProxyConfig
        from hoplab.net.zygote import Zygote

        zygote = Zygote()
        spaces = built(zygote)
        served(spaces)
        config = ProxyConfig(mode=mode, cluster_cidrs=("10.1.0.0/16",))
        proxy = KubeProxy(spaces["node1"], Node("node1", ("203.0.113.1",)), config)

        def load(number):
            changed = proxy.start_sync(*objects(number))
            proxy.finish_sync()
            return changed

        load(0)
        flows = flows_to(spaces["client"])
        answers = {name: [] for name in flows}
        over = threading.Event()

        def talk():
            while not over.is_set():
                for name, opened in flows.items():
                    answers[name].append(asked(opened, b"%d" % len(answers[name])))

        talking = threading.Thread(target=talk)
        talking.start()
        changed = sum(load(number) for number in range(1, CHANGES + 1))
        over.set()
        talking.join()
        return changed, answers

    changed, answers = in_sandbox(inside)
    assert changed == CHANGES
    assert {name: sorted(set(told)) for name, told in answers.items()} == {name: [name.split()[-1]] for name in answers}
    assert len(answers) == 6
    assert min(map(len, answers.values())) >= CHANGES
