"""The fields that a check file may have, kind by kind, and the words that some of them take.

In the table that hoplab.kube.schema reads, `str`, `int`, `bool`, `any` and `dict` are types, `@kind` is an object of
another kind, `[...]` a list, `{...}` a map, and `!` marks what has to be there.  docs/checks.md says what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from hoplab.checks.kube_proxy import KUBE_PROXY
from hoplab.kube.schema import Table

OUTCOMES = ("accepted", "rejected", "dropped", "unhandled")

FIELDS: Table = {
    "file": {
        "topology": "str",
        "nodes": "[@node]",
        "kubeProxy": "@kubeProxy",
        "balancer": "@balancer",
        "fabric": "str",
        "seed": "int",
        "manifests": "[str]",
        "objects": "[dict]",
        "flows": "[dict]!",
    },
    "node": {
        "name": "str!",
        "address": "str!",
        "addresses": "[str]",
        "podCIDR": "str!",
        "podCIDRs": "[str]",
        "labels": "{str}",
    },
    **KUBE_PROXY,
    "balancer": {"algorithm": "str", "mode": "str"},
    "flow": {"name": "str!", "from": "any!", "to": "str!", "via": "str", "expect": "@expect!"},
    "from": {"address": "str!", "behind": "str!"},
    "expect": {"outcome": "str", "endpoints": "[str]", "spread": "any", "masqueraded": "bool", "hops": "[str]"},
    "after": {"after": "[dict]!"},
    "apply": {"apply": "any!"},
    "delete": {"delete": "@key!"},
    "key": {"kind": "str!", "name": "str!", "namespace": "str"},
}

WORDS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("fabric",): ("routes", "vxlan"),
    ("kubeProxy", "mode"): ("iptables", "nftables"),
    ("kubeProxy", "kubernetes"): ("1.33", "1.7"),
    ("balancer", "algorithm"): ("hash", "round-robin"),
    ("balancer", "mode"): ("nat", "passthrough"),
}
