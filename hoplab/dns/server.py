"""The configuration of unbound, which serves the cluster's zones and asks for everything else outside.

unbound keeps the zones in memory as an authority would (a name that is not there does not
exist, a name without a record of the asked type has no data), resolves what an alias
points to wherever that is, and reads a zone anew while it goes on answering.
"""

from __future__ import annotations

from collections.abc import Iterable

PORT = 53
FOLDER = "/etc/unbound"
CONFIG = f"{FOLDER}/unbound.conf"
CONTROL = "/tmp/unbound.ctl"
"""The socket on which it takes commands; /tmp is the pod's own, /run its node's."""
NOBODY = "127.0.0.1@1"
"""A stub zone has to name a server; the zone itself is here, so it is never asked."""


def zone_file(zone: str) -> str:
    """Where a zone's master file is in the pod."""
    return f"{FOLDER}/{zone.rstrip('.')}.zone"


def unbound_config(zones: Iterable[str], upstreams: Iterable[str] = ()) -> str:
    """unbound.conf for these zones (absolute names); anything else goes to the `upstreams` (addresses).

    Each zone is an auth-zone that unbound's own resolver asks (for-upstream), so that a CNAME out of the zone is
    followed; a stub zone of the same name keeps its names from being forwarded.
    """
    names = sorted(zones)
    lines = [
        "server:",
        "    interface: 0.0.0.0",
        "    interface: ::0",
        f"    port: {PORT}",
        "    do-daemonize: no",
        "    use-syslog: no",
        '    chroot: ""',
        '    username: ""',
        '    pidfile: ""',
        f'    directory: "{FOLDER}"',
        "    num-threads: 1",
        "    access-control: 0.0.0.0/0 allow",
        "    access-control: ::/0 allow",
        # Names are not signed here; nothing is validated.
        '    module-config: "iterator"',
        # An answer comes from the address that was asked, whatever the routes prefer.
        "    interface-automatic: yes",
        # Private addresses have names here.
        "    unblock-lan-zones: yes",
        "    insecure-lan-zones: yes",
        "    do-not-query-localhost: no",
        "    hide-identity: yes",
        "    hide-version: yes",
        "remote-control:",
        "    control-enable: yes",
        f"    control-interface: {CONTROL}",
        "    control-use-cert: no",
    ]
    for name in names:
        lines += [
            "auth-zone:",
            f'    name: "{name}"',
            f'    zonefile: "{zone_file(name)}"',
            "    for-downstream: no",
            "    for-upstream: yes",
            "    fallback-enabled: no",
            "stub-zone:",
            f'    name: "{name}"',
            f"    stub-addr: {NOBODY}",
        ]
    outside = tuple(upstreams)
    if outside:
        lines += ["forward-zone:", '    name: "."', *(f"    forward-addr: {address}" for address in outside)]
    else:
        lines += ["stub-zone:", '    name: "."', f"    stub-addr: {NOBODY}"]
    return "\n".join(lines) + "\n"
