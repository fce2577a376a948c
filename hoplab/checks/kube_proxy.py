"""The part `kubeProxy` of a check file: settings of KubeProxyConfiguration, by its names and in its units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hoplab.cluster.options import CLUSTER_CIDR
from hoplab.dataplane.config import Conntrack, ProxyConfig
from hoplab.errors import InputError
from hoplab.kube.durations import seconds
from hoplab.kube.problems import Path
from hoplab.kube.schema import Table

KUBE_PROXY: Table = {
    "kubeProxy": {
        "mode": "str",
        "masqueradeAll": "bool",
        "masqueradeBit": "int",
        "clusterCIDR": "str",
        "nodePortAddresses": "[str]",
        "localhostNodePorts": "bool",
        "serviceCIDRs": "[str]",
        "minSyncPeriod": "str",
        "conntrack": "@conntrack",
        "kubernetes": "str",
    },
    "conntrack": {
        "tcpBeLiberal": "bool",
        "tcpEstablishedTimeout": "str",
        "tcpCloseWaitTimeout": "str",
        "udpTimeout": "str",
        "udpStreamTimeout": "str",
    },
}

Tell = Callable[[Path, str], None]
"""Takes a problem: where, and what."""


def proxy_config(given: Mapping[str, Any], problem: Tell) -> ProxyConfig:
    """The settings; what is wrong goes to `problem`, and then the usual ones come back (pure)."""
    given = {key: value for key, value in given.items() if value is not None}
    cidr = given.get("clusterCIDR", CLUSTER_CIDR)
    try:
        return ProxyConfig(
            mode=given.get("mode", "iptables"),
            cluster_cidrs=tuple(each.strip() for each in cidr.split(",") if each.strip()),
            masquerade_all=given.get("masqueradeAll", False),
            masquerade_bit=given.get("masqueradeBit", 14),
            node_port_addresses=tuple(given.get("nodePortAddresses", ())),
            localhost_node_ports=given.get("localhostNodePorts", True),
            service_ip_ranges=tuple(given.get("serviceCIDRs", ())),
            min_sync_period_s=_seconds(("kubeProxy", "minSyncPeriod"), given, 0.0, problem),
            conntrack=_conntrack(given.get("conntrack", {}), problem),
            kubernetes=given.get("kubernetes", "1.33"),
        )
    except InputError as error:
        named, colon, message = str(error).partition(": ")
        if colon and named.startswith("kubeProxy."):
            problem(tuple(named.split(".")), message)
        else:
            problem(("kubeProxy", "kubernetes"), str(error))
        return ProxyConfig()


def _conntrack(given: Mapping[str, Any], problem: Tell) -> Conntrack:
    usual = Conntrack()

    def whole(key: str, default: int) -> int:
        return int(_seconds(("kubeProxy", "conntrack", key), given, default, problem))

    return Conntrack(
        whole("tcpEstablishedTimeout", usual.tcp_established_timeout_s),
        whole("tcpCloseWaitTimeout", usual.tcp_close_wait_timeout_s),
        whole("udpTimeout", usual.udp_timeout_s),
        whole("udpStreamTimeout", usual.udp_stream_timeout_s),
        bool(given.get("tcpBeLiberal")),
    )


def _seconds(path: Path, given: Mapping[str, Any], default: float, problem: Tell) -> float:
    text = given.get(str(path[-1]))
    if text is None:
        return default
    try:
        return seconds(text)
    except ValueError as error:
        problem(path, str(error))
        return default
