"""What the names and addresses of a check file mean in its running lab: whose they are, and where a flow goes.

A Service has several addresses.  Its cluster IP is known inside the cluster only; from outside one reaches it by the
balancer, so that is what its name stands for there.
"""

from __future__ import annotations

import ipaddress

from hoplab.checks.spec import FlowSpec
from hoplab.errors import InputError
from hoplab.kube.types import Service
from hoplab.scenario.lab import Lab


class Names:
    """The names of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def named(self, spec: FlowSpec, what: str, name: str) -> str:
        """The namespace that a name or address of the file means.  Raises InputError."""
        lab = self._lab
        if name in lab.namespaces and lab.namespaces[name].role != "switch":
            return name
        if name.startswith("pod/"):
            namespace, _, pod = name.removeprefix("pod/").rpartition("/")
            try:
                return lab.pod(pod, namespace or "default").namespace.name
            except InputError as error:
                raise InputError(f"{spec.place}: {spec.name}: {what}: {error}") from error
        if name in (owners := self.owners()):
            return owners[name]
        known = ", ".join(n for n, ns in lab.namespaces.items() if ns.role != "switch")
        raise InputError(f"{spec.place}: {spec.name}: {what}: the lab has no {name!r}; it has {known}")

    def owners(self) -> dict[str, str]:
        """Address -> the namespace that has it: machines and pods."""
        cluster = self._lab.cluster
        found = {ip: r.namespace.name for r in cluster.running() for ip in r.ips}
        for agent in cluster.nodes.values():
            found |= dict.fromkeys((*agent.node.addresses, *agent.node.extra_addresses), agent.name)
        for machine in cluster.net.hosts:
            found.setdefault(str(machine.params["ip"]).partition("/")[0], machine.name)
        return found

    def address(self, spec: FlowSpec, sender: str) -> tuple[str, int]:
        """Address and port that a flow goes to, of the family of a borrowed source.  Raises InputError."""
        name, port = spec.to.name, spec.to.port
        try:
            return str(ipaddress.ip_address(name)), port
        except ValueError:
            pass
        where = f"{spec.place}: {spec.name}: to"
        if name.startswith("svc/"):
            service, number = self._service(spec, where)
            outside = (
                self._lab.namespaces[sender].role not in ("node", "pod") and self._lab.cluster.balancer is not None
            )
            balanced = [each.ip for each in service.load_balancer_ingress] if outside and not spec.via else []
            # No way leads to a cluster IP from outside, but for the one that `via` says.
            known, port = balanced or [ip for ip in service.cluster_ips if ip != "None"], number
            if not known:
                raise InputError(f"{where}: Service {service.meta.name} has no cluster IP to send to")
        else:
            known = self._addresses_of(self.named(spec, "to", name))
        borrowed = spec.source.address
        return next((each for each in known if borrowed and (":" in each) == (":" in borrowed)), known[0]), port

    def _service(self, spec: FlowSpec, where: str) -> tuple[Service, int]:
        """The Service that a flow goes to, and its port: the one that is named, else the first of this protocol."""
        namespace, _, name = spec.to.name.removeprefix("svc/").rpartition("/")
        wanted = spec.to.port_name or (str(spec.to.port) if spec.to.port else "")
        try:
            found = self._lab.service(name, namespace or "default", wanted)
            number = found.port.port
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if not wanted:
            alike = (port.port for port in found.service.ports if port.protocol.lower() == spec.to.protocol)
            number = next(alike, number)
        return found.service, number

    def _addresses_of(self, namespace: str) -> list[str]:
        agent = self._lab.cluster.nodes.get(namespace)
        if agent is not None:
            return list(agent.node.addresses)
        return [address for address, owner in self.owners().items() if owner == namespace]
