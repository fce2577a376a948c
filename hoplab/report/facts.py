"""What of a hop counts when two runs are compared, in words that do not depend on what is made up anew each time.

Times, frame numbers, MAC addresses and ephemeral ports never count.  An address counts
as the place that has it, since pods get addresses in the order in which they start;
interface and pod names that are generated count as one of their kind.  Where the seeds
differ, so do cluster IPs and node ports: then these count as one of their kind, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from hoplab.report.json_report import Document

_VETH = re.compile(r"\bveth[0-9a-f]{6,}\b")
_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{0,4}){2,7})(?![\w.])")
_GENERATED = re.compile(r"^(pod/.+?)-[a-z0-9]{8,10}-[a-z0-9]{5}$|^(pod/.+?)-[a-z0-9]{5}$")
_NODE_PORTS = range(30000, 32768)
_PORTLESS = ("icmp", "icmpv6")

IGNORED = (
    "times, frame numbers and MAC addresses",
    "ports that senders and masquerade pick anew each time",
    "addresses of pods that are the same pod, and generated names of pods and interfaces",
    "how many of equal flows went where",
    "the order of rules that decided nothing",
)
IGNORED_WITH_OTHER_SEED = "cluster IPs and node ports, since the seeds differ"


class Names:
    """What stands for the addresses and names of one run; `both` are the places that the other run has as well."""

    def __init__(self, document: Document, both: Collection[str], *, same_seed: bool) -> None:
        self._same_seed, self._both = same_seed, both
        self._places: dict[str, str] = {}
        self._known: dict[str, str] = {}
        for place in document["topology"].get("places", ()):
            for address in place.get("addresses", ()):
                self._places[address] = self.place(place["name"])
        # Pods that were gone when the run ended: what they sent, and what was delivered to them, names them.
        for hop in _hops(document):
            if hop["node"].startswith("pod/") and None in (hop["in"], hop["out"]):
                own = hop["before"]["src"] if hop["in"] is None else hop["before"]["dst"]
                self._places.setdefault(own, self.place(hop["node"]))

    def place(self, name: str) -> str:
        """A place's name; one that was generated for this run alone by its workload and the order of appearance."""
        if name not in self._known:
            found = None if name in self._both else _GENERATED.match(name)
            if found is None:
                self._known[name] = name
            else:
                stem = found[1] or found[2]
                number = sum(known.startswith(f"{stem}-#") for known in self._known.values()) + 1
                self._known[name] = f"{stem}-#{number}"
        return self._known[name]

    def address(self, address: str) -> str:
        """The place that has an address; the address itself when nobody has it."""
        return self._places.get(address) or (address if self._same_seed else "an address of no place")

    def endpoint(self, address: str, port: int) -> str:
        """Address and port of a server."""
        told = self.address(address)
        if not port:
            return told
        made_up = not self._same_seed and port in _NODE_PORTS
        return f"{told} {'a node port' if made_up else f'port {port}'}"

    def text(self, text: str) -> str:
        """Words with addresses in them."""
        return _ADDRESS.sub(lambda found: self.address(found[0]), _VETH.sub("veth", text))


def in_both(left: Document, right: Document) -> frozenset[str]:
    """Names of places that two runs have in common."""
    return frozenset(_places(left) & _places(right))


def _places(document: Document) -> set[str]:
    told = {place["name"] for place in document["topology"].get("places", ())}
    return told | {hop["node"] for hop in _hops(document)}


def _hops(document: Document) -> Iterator[Document]:
    for flow in document["flows"]:
        for one in (flow, *flow["legs"]):
            yield from (*one["forward"], *one["reply"])


def facts(hop: Document, names: Names, protocol: str, *, reply: bool) -> Mapping[str, str]:
    """What counts of a hop, by what it is about."""
    ports = protocol not in _PORTLESS
    # On the way there the destination is the server, on the way back the source is.
    server, other = ("src", "dst") if reply else ("dst", "src")
    words = {"dst": "destination", "src": "source"}

    def end(side: str, which: str) -> str:
        port = hop[side][which.replace("src", "sport").replace("dst", "dport")] if which == server and ports else 0
        return names.endpoint(hop[side][which], port)

    told = {"interfaces": _VETH.sub("veth", f"{hop['in'] or 'made here'} → {hop['out'] or 'ended here'}")}
    for which in (server, other):
        before, after = end("before", which), end("after", which)
        told[words[which]] = before if before == after else f"{before} → {after}"
    told["TTL"] = " → ".join("none" if ttl is None else str(ttl) for ttl in (hop["ttl_in"], hop["ttl_out"]))
    told["tunnel"] = "in a tunnel" if hop["tunnel"] else "no tunnel"
    decided = [f"{rule['does']}: {names.text(rule['object'])}".rstrip(": ") for rule in hop["rules"] if rule["does"]]
    told["decided by"] = "; ".join(decided) or "no rule"
    return told
