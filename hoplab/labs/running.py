"""A lab as it runs: its cluster, and what the requests of its users look up in it.

Lives in the lab's process 1.  Names are held against what is there at this moment:
machines never change, pods and Services do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hoplab.cluster.cluster import Cluster
from hoplab.cluster.etcfiles import MACHINE_RESOLV_CONF, machine_hosts
from hoplab.cluster.images import program
from hoplab.cluster.node import PodOnNode
from hoplab.kube.types import Container, Service
from hoplab.labs.targets import Known, Place, parse
from hoplab.net.machines import Machine
from hoplab.net.namespaces import Namespace
from hoplab.net.zygote import SessionSpec, Zygote
from hoplab.probe.crafter import Crafter

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN_ADDRESSES = ("127.", "::1", "fe80:")


@dataclass(slots=True)
class RunningLab:
    """What the requests work on.  `jobs` wait for the main loop: they run one after the other, outside callbacks."""

    name: str
    cluster: Cluster
    zygote: Zygote
    crafter: Crafter
    seed: int
    jobs: list[Callable[[], None]] = field(default_factory=list)
    traces: int = 0
    """How many `trace`s there were: each gets ports and tokens of its own."""
    ending: bool = False

    def known(self) -> Known:
        """Everything that has a name."""
        return known(self.cluster)

    def namespace(self, target: str, namespace: str = "default") -> Namespace:
        """The namespace that a TARGET means.  Raises InputError."""
        place = self.known().place(parse(target), namespace)
        return self.cluster.namespaces()[place.name]

    def environment(
        self, inside: Namespace, given: Mapping[str, str], container: Container | None = None
    ) -> dict[str, str]:
        """What a program inside finds in its environment: the basics, its container's variables, what the caller gave.

        `container`: which of a pod's; the first one where none is named.
        """
        running = self._pod_of(inside)
        found = {"PATH": PATH, "HOME": "/root", "HOSTNAME": inside.name, "LANG": "C.UTF-8"}
        if running is not None:
            found["HOSTNAME"] = running.pod.hostname or running.pod.meta.name
            agent = self.cluster.nodes[running.pod.node_name]
            chosen = container or next(iter(running.pod.containers), None)
            if chosen is not None:
                found.update(self.cluster.containers.variables(agent.as_running(running), chosen))
        return {**found, **given}

    def _pod_of(self, inside: Namespace) -> PodOnNode | None:
        for agent in self.cluster.nodes.values():
            # Other threads ask as well: a list is made in one step, a loop over the dict itself is not.
            for running in list(agent.pods.values()):
                if running.namespace == inside:
                    return running
        return None

    def session(self, inside: Namespace, spec: SessionSpec, descriptors: list[int]) -> None:
        """Run a program inside for somebody who waits at the last of the descriptors.  Raises SpawnFailed."""
        self.zygote.session(inside.name, inside.pid, spec, descriptors)


def known(cluster: Cluster) -> Known:
    """Everything in a cluster that has a name."""
    machines = [_machine(machine) for machine in cluster.net.hosts]
    switches = [Place(switch.name, "switch") for switch in cluster.net.switches]
    pods = [_pod(running) for running in cluster.running()]
    return Known((*machines, *pods, *switches), services(cluster))


def name_machines(cluster: Cluster) -> None:
    """Give each machine an /etc/hosts and /etc/resolv.conf of the lab's instead of the host's."""
    machines = {place.name: place.addresses for place in map(_machine, cluster.net.hosts)}
    for machine in cluster.net.hosts:
        machine.namespace.write("/etc/hosts", machine_hosts(machine.name, machines))
        machine.namespace.write("/etc/resolv.conf", MACHINE_RESOLV_CONF)


def services(cluster: Cluster) -> tuple[Service, ...]:
    """The Services with their addresses."""
    return tuple(cluster.objects.services.values())


def _machine(machine: Machine) -> Place:
    role = str(machine.params.get("role", "host"))
    found = [(interface, address) for interface, address, _prefix in machine.netlink.addresses() if address]
    # What a user means by a machine's address is one of its links', before those it only answers for (on lo).
    ordered = sorted(found, key=lambda pair: pair[0] == "lo")
    addresses = tuple(address for _interface, address in ordered if not address.startswith(OWN_ADDRESSES))
    return Place(machine.name, role, addresses)


def _pod(running: PodOnNode) -> Place:
    ports = [(port.port, port.protocol) for each in running.pod.containers for port in program(each).ports]
    return Place(running.namespace.name, "pod", running.ips, tuple(dict.fromkeys(ports)))
