"""Lists and deletes entries of a namespace's connection tracking, UDP only, over nfnetlink (as conntrack(8) does)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Any

from hoplab.kube.types import IPFamily
from hoplab.net.namespaces import Namespace
from hoplab.net.pyroute2_parts import NetlinkError, NFCTAttrTuple, NFCTSocket

FAMILIES: dict[IPFamily, tuple[socket.AddressFamily, str]] = {
    "IPv4": (socket.AF_INET, "CTA_IP_V4"),
    "IPv6": (socket.AF_INET6, "CTA_IP_V6"),
}
"""Kubernetes' name -> netlink's number, and how the attributes of addresses begin."""

Ends = tuple[str, int, str, int]
"""source, source port, destination, destination port"""


class UdpConnections:
    """The UDP entries of one namespace and one address family; close it after use."""

    def __init__(self, namespace: Namespace, family: IPFamily = "IPv4") -> None:
        self._family, self._attribute = FAMILIES[family]
        # The socket is opened where the first request is made.
        with namespace.entered():
            self._socket = NFCTSocket(nfgen_family=self._family)
            self._socket.count()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def entries(self) -> list[tuple[Ends, Ends]]:
        """The original and the reply direction of every entry."""
        found = []
        for message in self._socket.dump():
            original, reply = (self._ends(message.get_attr(f"CTA_TUPLE_{way}")) for way in ("ORIG", "REPLY"))
            if original is not None and reply is not None:
                found.append((original, reply))
        return found

    def delete(self, originals: Iterable[Ends]) -> None:
        """Delete the entries with these original directions; one that has gone by itself is fine."""
        for source, source_port, destination, destination_port in originals:
            ends = NFCTAttrTuple(
                family=self._family,
                saddr=source,
                daddr=destination,
                proto=socket.IPPROTO_UDP,
                sport=source_port,
                dport=destination_port,
            )
            try:
                self._socket.entry("del", tuple_orig=ends)
            except NetlinkError as error:
                if error.code != errno.ENOENT:
                    raise

    def _ends(self, part: Any) -> Ends | None:
        """One direction of an entry; None for what is no UDP of this family."""
        if part is None:
            return None
        ip, protocol = part.get_attr("CTA_TUPLE_IP"), part.get_attr("CTA_TUPLE_PROTO")
        source, destination = ip.get_attr(f"{self._attribute}_SRC"), ip.get_attr(f"{self._attribute}_DST")
        if source is None or protocol.get_attr("CTA_PROTO_NUM") != socket.IPPROTO_UDP:
            return None
        return source, protocol.get_attr("CTA_PROTO_SRC_PORT"), destination, protocol.get_attr("CTA_PROTO_DST_PORT")
