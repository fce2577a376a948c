"""The world's DNS, in small: a name server outside of the cluster that knows the machines out there.

A cluster's name server knows the cluster and asks outside for everything else.  Here the
outside is the machine behind the nodes' way out (the router, or the client of a single
node): dnsmasq runs on it, gives the machines names below example.com (RFC 2606), and
tells of every other name that it does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hoplab.net import programs
from hoplab.net.machines import Machine
from hoplab.net.zygote import ProgramSpec, SpawnFailed, Zygote
from hoplab.setup.programs import find

DOMAIN = "example.com"
LOG = "/var/log/dnsmasq.log"


@dataclass(frozen=True, slots=True)
class OutsideServer:
    """Which machine serves the outside's names, and at which address."""

    machine: str
    address: str


def outside_server(machines: Sequence[Machine]) -> OutsideServer | None:
    """The router where there is one, else the client; None where a topology has neither."""
    for role in ("router", "client"):
        for machine in machines:
            if machine.params.get("role") == role:
                return OutsideServer(machine.name, str(machine.params["ip"]).partition("/")[0])
    return None


def outside_names(machines: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Name -> addresses: each machine as NAME.example.com, and the client as www.example.com, too (pure)."""
    names = {f"{name}.{DOMAIN}": tuple(addresses) for name, addresses in machines.items()}
    if "client" in machines:
        names[f"www.{DOMAIN}"] = tuple(machines["client"])
    return names


def dnsmasq_arguments(names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """How dnsmasq is called to serve these names and no others (pure)."""
    alone = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=")
    # Whoever is root in a user namespace alone may not leave his groups; no group at all is none to change to.
    as_root = ("--user=root", "--group=")
    served = (f"--host-record={name},{','.join(addresses)}" for name, addresses in names.items())
    # --local=/#/ has it answer for every domain from what it knows alone.
    return (*alone, *as_root, "--log-facility=-", "--local=/#/", *served)


def serve(zygote: Zygote, machines: Sequence[Machine]) -> str:
    """Start the outside's name server; what went wrong, '' when nothing did."""
    where = outside_server(machines)
    found = find("dnsmasq")
    if where is None or found is None:
        return "" if where is None else "no dnsmasq on this machine: nobody outside answers for names; lab.py --setup"
    machine = next(each for each in machines if each.name == where.machine)
    addresses = {
        each.name: [address for _interface, address, _prefix in each.netlink.addresses() if _is_public(address)]
        for each in machines
        if each.params.get("role") in ("router", "client", "balancer")
    }
    # A machine's first address is the one that the others know it by.
    names = outside_names({name: found[:1] for name, found in addresses.items() if found})
    spec = ProgramSpec(
        f"{machine.name}: dnsmasq",
        machine.namespace.pid,
        (found.path, *dnsmasq_arguments(names)),
        found.environment(),
    )
    try:
        programs.start(zygote, spec, machine.namespace.path(LOG), programs.Ready((("udp", 53),)))
    except SpawnFailed as error:
        return str(error)
    return ""


def _is_public(address: str) -> bool:
    return not address.startswith(("127.", "::1", "fe80:", "10.240."))
