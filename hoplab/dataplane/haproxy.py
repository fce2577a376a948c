"""HAProxy's configuration: the balancer of mode proxy, which ends the client's connection and opens another one.

HAProxy asks the nodes for their health itself and decides by the answers, so its configuration has every node in it.
It knows two kinds of state at its start: the first answer of a node decides at once, later ones after some in a row.
"""

from __future__ import annotations

from hoplab.dataplane.balancer import (
    Algorithm,
    Balancer,
    BalancerError,
    Frontend,
    backends_of,
    frontend_name,
    ordered,
    socket_text,
)

CHECK_INTERVAL_S, CHECK_FALL, CHECK_RISE = 2, 3, 2
"""How often HAProxy asks a node, after how many failures it gives the node no more flows, and after how many
successes again: its own defaults."""


def haproxy_config(balancer: Balancer, *, send_proxy: bool = False, admin: str = "") -> str:
    """HAProxy's configuration for mode proxy: two TCP connections, the client's and one to the node.

    `send_proxy` announces the client's address to the backend by the PROXY protocol, version 2 (the classic ELB's
    `service.beta.kubernetes.io/aws-load-balancer-proxy-protocol` does so with version 1).  hash is over both
    addresses and ports, as the packet balancers have it, not HAProxy's usual `balance source`.  `admin`: path of the
    socket on which HAProxy tells what it knows of its servers.

    Raises BalancerError for a frontend that is not TCP: HAProxy ends connections, other protocols have none.
    """
    lines = [
        "global",
        "    maxconn 4096",
        # One thread takes connections in the order in which they came, so that round robin is seen to be exact.
        "    nbthread 1",
        # All servers are asked at once when it starts, and the first answer decides.
        "    max-spread-checks 1",
        *([f"    stats socket {admin} mode 600 level admin"] if admin else []),
        "defaults",
        "    mode tcp",
        "    timeout connect 2s",
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout check 2s",
        f"    default-server inter {CHECK_INTERVAL_S}s fall {CHECK_FALL} rise {CHECK_RISE}",
    ]
    for frontend in ordered(balancer.frontends):
        lines += _haproxy_listen(frontend, balancer.algorithm, send_proxy)
    return "\n".join(lines) + "\n"


def _haproxy_listen(frontend: Frontend, algorithm: Algorithm, send_proxy: bool) -> list[str]:
    if frontend.protocol != "TCP":
        raise BalancerError(
            f"{frontend.service}: a proxying balancer takes TCP only, found {frontend.protocol} on "
            f"{socket_text(frontend.vip, frontend.port)}; use --balancer-mode nat or passthrough"
        )
    lines = [
        f"# {frontend.service}",
        f"listen {frontend_name('frontend', frontend)}",
        f"    bind {socket_text(frontend.vip, frontend.port)}",
    ]
    if algorithm == "hash":
        lines += [
            '    tcp-request content set-var-fmt(sess.tuple) "%[src]:%[src_port]:%[dst]:%[dst_port]"',
            "    balance hash var(sess.tuple)",
            "    hash-type map-based djb2 avalanche",
        ]
    else:
        lines.append("    balance roundrobin")
    backends = backends_of(frontend)
    if any(each.check for each in backends):
        lines += ["    option httpchk GET /healthz", "    http-check expect status 200"]
    option = " send-proxy-v2" if send_proxy else ""
    for each in backends:
        # A health check is no client's connection: it begins with the request, without a PROXY header.
        check = f" check port {each.check} no-check-send-proxy" if each.check else ""
        lines.append(f"    server {each.node} {socket_text(each.address, each.port)}{check}{option}")
    return lines
