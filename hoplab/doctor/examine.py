"""Runs the whole examination and puts its findings together."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from hoplab.doctor import host, topics
from hoplab.doctor.topics import Finding, Topic
from hoplab.net import sandbox

INSIDE: Sequence[Topic] = (
    topics.HOLDERS,
    topics.VETH,
    topics.BRIDGE,
    topics.VXLAN,
    topics.BRIDGE_NETFILTER,
    topics.MATCHES,
    topics.NFT,
    topics.FRAMES,
    topics.TRACES,
    topics.CONNTRACK,
    topics.IPV6,
    topics.SCTP,
    topics.NETEM,
    topics.DROPS,
)
"""What is tried inside the sandbox."""


def examine() -> list[Finding]:
    """Try everything on this machine; nothing of it stays."""
    return [
        host.python_packages(),
        *host.programs(),
        *host.servers(),
        host.iptables_variant(),
        host.cni_plugins(),
        *host.namespaces(),
        *in_sandbox(),
        host.memory(),
        host.captures(),
    ]


def in_sandbox() -> list[Finding]:
    """Enter a lab's sandbox and try what only it can."""
    heard, told = os.pipe()

    def inside() -> int:
        from hoplab.doctor import inside

        return inside.examine(told)

    try:
        code = sandbox.run(inside)
    except sandbox.SandboxRefused as refusal:
        os.close(told)
        os.close(heard)
        return [Finding(topics.SANDBOX, "missing", str(refusal)), *_untried(INSIDE)]
    os.close(told)
    with os.fdopen(heard, encoding="utf-8") as pipe:
        lines = [json.loads(line) for line in pipe]
    said = {name: (state, found) for name, state, found in lines}
    entered = Finding(topics.SANDBOX, "ok", "entered and left")
    if code != 0:
        entered = Finding(topics.SANDBOX, "missing", f"the examination inside ended with {code}")
    return [entered, *(Finding(t, *said[t.name]) if t.name in said else _untried([t])[0] for t in INSIDE)]


def _untried(wanted: Sequence[Topic]) -> list[Finding]:
    return [Finding(topic, "untried", "needs the sandbox") for topic in wanted]
