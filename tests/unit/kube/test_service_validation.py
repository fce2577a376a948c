"""Services that the API server refuses: what it says, and at which line and field of the file."""

from __future__ import annotations

import pytest

from hoplab.kube.load import load
from hoplab.kube.problems import ManifestError

HEAD = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n"
"""The spec's fields begin at line 5."""


def problems(spec: str, head: str = HEAD) -> list[tuple[int, str, str]]:
    lines = [f"  {line}" for line in spec.strip().splitlines()]
    try:
        load(head + "\n".join(lines) + "\n", "f.yaml")
    except ManifestError as error:
        return [(problem.line, problem.field, problem.message) for problem in error.problems]
    return []


PORT = "ports: [{port: 80}]\n"
ONLY_BALANCED = "Forbidden: may only be used when `type` is 'LoadBalancer'"
BAD: list[tuple[str, str, list[tuple[int, str, str]]]] = [
    ("no ports", "type: NodePort", [(4, "spec.ports", "Required value")]),
    (
        "ports without names",
        "ports:\n- port: 80\n- port: 81",
        [(6, "spec.ports[0].name", "Required value"), (7, "spec.ports[1].name", "Required value")],
    ),
    (
        "one name twice",
        "ports:\n- {name: a, port: 80}\n- {name: a, port: 81}",
        [(7, "spec.ports[1].name", 'Duplicate value: "a"')],
    ),
    (
        "one port twice",
        "ports:\n- {name: a, port: 80}\n- {name: b, port: 80}",
        [(7, "spec.ports[1]", 'Duplicate value: {"port":80,"protocol":"TCP"}')],
    ),
    (
        "one node port twice",
        "type: NodePort\nports:\n- {name: a, port: 80, nodePort: 30080}\n- {name: b, port: 81, nodePort: 30080}",
        [(8, "spec.ports[1].nodePort", "Duplicate value: 30080")],
    ),
    (
        "a node port of a cluster IP",
        "ports:\n- port: 80\n  nodePort: 30080",
        [(7, "spec.ports[0].nodePort", "Forbidden: may not be used when `type` is 'ClusterIP'")],
    ),
    (
        "a protocol nobody speaks",
        "ports:\n- port: 80\n  protocol: tcp",
        [(7, "spec.ports[0].protocol", 'Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"')],
    ),
    (
        "a target port that is no name",
        "ports:\n- port: 80\n  targetPort: web_server",
        [
            (
                7,
                "spec.ports[0].targetPort",
                'Invalid value: "web_server": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)',
            )
        ],
    ),
    (
        "a target port of 65536",
        "ports:\n- port: 80\n  targetPort: 65536",
        [(7, "spec.ports[0].targetPort", "Invalid value: 65536: must be between 1 and 65535, inclusive")],
    ),
    (
        "ExternalName without a name",
        "type: ExternalName",
        [(4, "spec.externalName", "Required value")],
    ),
    (
        "ExternalName with addresses",
        "type: ExternalName\nexternalName: example.com.\nclusterIP: 10.0.0.1\nipFamilies: [IPv4]",
        [
            (7, "spec.clusterIP", "Forbidden: may not be set for ExternalName services"),
            (8, "spec.ipFamilies", "Forbidden: may not be set for ExternalName services"),
        ],
    ),
    (
        "a headless node port",
        PORT + "type: NodePort\nclusterIP: None",
        [(7, "spec.clusterIP", "Invalid value: \"None\": may not be set to 'None' for NodePort services")],
    ),
    (
        "a cluster IP of the wrong family",
        PORT + "clusterIP: 10.0.0.1\nipFamilies: [IPv6]",
        [
            (
                6,
                "spec.clusterIP",
                'Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`',
            )
        ],
    ),
    (
        "cluster IPs of one family",
        PORT + "ipFamilyPolicy: RequireDualStack\nclusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1, 10.0.0.2]",
        [
            (
                8,
                "spec.clusterIPs",
                'Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family',
            )
        ],
    ),
    (
        "cluster IPs that contradict",
        PORT + "clusterIP: 10.0.0.1\nclusterIPs: [10.0.0.2]",
        [(7, "spec.clusterIPs", 'Invalid value: ["10.0.0.2"]: first value must match `clusterIP`')],
    ),
    (
        "cluster IPs without the cluster IP",
        PORT + "clusterIPs: [10.0.0.2]",
        [(6, "spec.clusterIPs", 'Invalid value: ["10.0.0.2"]: must be empty when `clusterIP` is not specified')],
    ),
    (
        "None and an address",
        PORT + "clusterIP: None\nclusterIPs: [None, 10.0.0.2]",
        [(7, "spec.clusterIPs", 'Invalid value: ["None","10.0.0.2"]: \'None\' must be the first and only value')],
    ),
    (
        "two families and one stack",
        PORT + "ipFamilies: [IPv4, IPv6]",
        [
            (
                4,
                "spec.ipFamilyPolicy",
                "Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack'"
                " when multiple IP families are specified",
            )
        ],
    ),
    (
        "one family twice, and one unknown",
        PORT + "ipFamilyPolicy: PreferDualStack\nipFamilies:\n- IPv4\n- IPv4\n- IPX",
        [
            (9, "spec.ipFamilies[1]", 'Duplicate value: "IPv4"'),
            (10, "spec.ipFamilies[2]", 'Unsupported value: "IPX": supported values: "IPv4", "IPv6"'),
        ],
    ),
    (
        "an affinity without need for its settings",
        PORT + "sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}",
        [(6, "spec.sessionAffinityConfig", "Forbidden: must not be set when session affinity is None")],
    ),
    (
        "an affinity of no time",
        PORT + "sessionAffinity: ClientIP\nsessionAffinityConfig:\n  clientIP:\n    timeoutSeconds: 0",
        [
            (
                9,
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                "Invalid value: 0: must be greater than 0 and less than 86400",
            )
        ],
    ),
    (
        "an external policy of a Service that is not external",
        PORT + "externalTrafficPolicy: Local",
        [
            (
                6,
                "spec.externalTrafficPolicy",
                'Invalid value: "Local": may only be set for externally-accessible services',
            )
        ],
    ),
    (
        "policies that do not exist",
        PORT + "type: NodePort\nexternalTrafficPolicy: Global\ninternalTrafficPolicy: local\ntrafficDistribution: Near",
        [
            (7, "spec.externalTrafficPolicy", 'Unsupported value: "Global": supported values: "Cluster", "Local"'),
            (8, "spec.internalTrafficPolicy", 'Unsupported value: "local": supported values: "Cluster", "Local"'),
            (
                9,
                "spec.trafficDistribution",
                'Unsupported value: "Near": supported values: "PreferClose", "PreferSameNode", "PreferSameZone"',
            ),
        ],
    ),
    (
        "a health check of policy Cluster",
        PORT + "type: LoadBalancer\nhealthCheckNodePort: 30100",
        [
            (
                7,
                "spec.healthCheckNodePort",
                "Invalid value: 30100: may only be set when `type` is 'LoadBalancer' and"
                " `externalTrafficPolicy` is 'Local'",
            )
        ],
    ),
    (
        "a balancer's fields without a balancer",
        PORT + "loadBalancerSourceRanges: [10.0.0.0/8]\nloadBalancerClass: a/b\nallocateLoadBalancerNodePorts: false",
        [
            (6, "spec.loadBalancerSourceRanges", ONLY_BALANCED),
            (7, "spec.loadBalancerClass", ONLY_BALANCED),
            (8, "spec.allocateLoadBalancerNodePorts", ONLY_BALANCED),
        ],
    ),
    (
        "source ranges that are none",
        PORT + "type: LoadBalancer\nloadBalancerSourceRanges:\n- 10.0.0.0/33\n- 10.0.0.1\n- ' 10.0.0.0/8 '",
        [
            (
                line,
                f"spec.loadBalancerSourceRanges[{number}]",
                f'Invalid value: "{text}": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
            )
            for line, number, text in ((8, 0, "10.0.0.0/33"), (9, 1, "10.0.0.1"))
        ],
    ),
    (
        "external IPs that lead nowhere",
        PORT + "externalIPs:\n- 127.0.0.1\n- 169.254.1.1\n- 0.0.0.0\n- 224.0.0.5\n- example.com\n- 010.0.0.1",
        [
            (
                7,
                "spec.externalIPs[0]",
                'Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
            ),
            (
                8,
                "spec.externalIPs[1]",
                'Invalid value: "169.254.1.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)',
            ),
            (9, "spec.externalIPs[2]", 'Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)'),
            (
                10,
                "spec.externalIPs[3]",
                'Invalid value: "224.0.0.5": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)',
            ),
            *(
                (
                    line,
                    f"spec.externalIPs[{number}]",
                    f'Invalid value: "{text}": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
                )
                for line, number, text in ((11, 4, "example.com"), (12, 5, "010.0.0.1"))
            ),
        ],
    ),
    (
        "a selector that selects nothing",
        PORT + "selector:\n  'a b': c\n  d: e f",
        [
            (
                7,
                "spec.selector[a b]",
                "Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must"
                " start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used"
                " for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
            (
                8,
                "spec.selector.d",
                'Invalid value: "e f": a valid label must be an empty string or consist of alphanumeric characters,'
                " '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or"
                " 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
        ],
    ),
    (
        "wrong types",
        "type: 5\nports: {port: 80}\nselector: {version: 1.12, on: yes}\npublishNotReadyAddresses: 'no'",
        [
            (5, "spec.type", "expected a string, found a whole number: 5"),
            (6, "spec.ports", "expected a list, found an object"),
            (
                7,
                "spec.selector.version",
                "expected a string, found a number: 1.12; put it in quotes to have the text",
            ),
            (7, "spec.selector.on", "expected a string, found true or false: true; put it in quotes to have the text"),
            (8, "spec.publishNotReadyAddresses", 'expected true or false, found a string: "no"'),
        ],
    ),
    (
        "unknown fields do not hide what else is wrong",
        "type: NodePort\nsessionAfinity: None\nports:\n- port: 0",
        [
            (6, "spec.sessionAfinity", "unknown field; did you mean sessionAffinity?"),
            (8, "spec.ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
        ],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), [pytest.param(spec, told, id=name) for name, spec, told in BAD])
def test_what_is_refused(spec: str, expected: list[tuple[int, str, str]]) -> None:
    assert problems(spec) == expected


GOOD = {
    "one port for both protocols": "ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]",
    "one node port for both protocols": (
        "type: NodePort\nports:\n- {name: a, port: 53, nodePort: 30053}\n"
        "- {name: b, port: 53, nodePort: 30053, protocol: UDP}"
    ),
    "headless without ports": "clusterIP: None",
    "headless of both families without a selector": "clusterIP: None\nipFamilies: [IPv4, IPv6]",
    "both families": PORT + "ipFamilyPolicy: RequireDualStack\nclusterIP: 10.0.0.1\nclusterIPs: [10.0.0.1, fd00::1]",
    "external IPs make it external": PORT + "externalIPs: [192.0.2.1]\nexternalTrafficPolicy: Local",
    "the longest affinity": (
        PORT + "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}"
    ),
    "a health check": (
        PORT + "type: LoadBalancer\nexternalTrafficPolicy: Local\nhealthCheckNodePort: 30100\nloadBalancerIP: 192.0.2.7"
    ),
    "a range with host bits": PORT + "type: LoadBalancer\nloadBalancerSourceRanges: [10.1.2.3/8, 'fd00::/8']",
    "nulls are fields that are not there": PORT + "type: null\nselector: null\nclusterIP:",
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_accepted(name: str) -> None:
    assert problems(GOOD[name]) == []


STATUS = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: %s, ports: [{port: 80}]}\nstatus:\n"


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("LoadBalancer", "loadBalancer: {ingress: [{ip: 192.0.2.1, ipMode: Proxy}, {hostname: lb.example}]}", []),
        (
            "LoadBalancer",
            "loadBalancer: {ingress: [{ip: 192.0.2.1, ipMode: Nat}]}",
            [
                (
                    6,
                    "status.loadBalancer.ingress[0].ipMode",
                    'Unsupported value: "Nat": supported values: "Proxy", "VIP"',
                )
            ],
        ),
        (
            "LoadBalancer",
            "loadBalancer: {ingress: [{hostname: 192.0.2.1}]}",
            [
                (
                    6,
                    "status.loadBalancer.ingress[0].hostname",
                    'Invalid value: "192.0.2.1": must be a DNS name, not an IP address',
                )
            ],
        ),
        (
            "NodePort",
            "loadBalancer: {ingress: [{ip: 192.0.2.1}]}",
            [
                (
                    6,
                    "status.loadBalancer.ingress",
                    "Forbidden: may only be used when `spec.type` is 'LoadBalancer'",
                )
            ],
        ),
    ],
)
def test_a_given_status(kind: str, status: str, expected: list[tuple[int, str, str]]) -> None:
    assert problems(status, STATUS % kind) == expected


def test_annotations_with_source_ranges() -> None:
    head = (
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations:\n"
        "    service.beta.kubernetes.io/load-balancer-source-ranges: 10.0.0.0/8,no\nspec:\n"
    )
    ((line, field, message),) = problems("type: LoadBalancer\nports: [{port: 80}]", head)
    assert line == 6
    assert field == "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]"
    assert message.startswith('Invalid value: "no": must be a valid CIDR value')
