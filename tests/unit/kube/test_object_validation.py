"""All other kinds that the API server refuses: what it says, and at which line and field of the file."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from hoplab.kube.load import load
from hoplab.kube.problems import ManifestError


class Told(NamedTuple):
    """Line and field of a problem, and how its message begins."""

    line: int
    field: str
    message: str


def check(text: str, expected: list[Told]) -> None:
    """The text is refused for exactly these problems, or loads when there are none."""
    try:
        load(text, "f.yaml")
    except ManifestError as error:
        found = error.problems
    else:
        found = ()
    assert [(problem.line, problem.field) for problem in found] == [(told.line, told.field) for told in expected]
    for problem, told in zip(found, expected, strict=True):
        assert problem.message.startswith(told.message)
        assert problem.file == "f.yaml"


REQUIRED = "Required value"
SLICE = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\n"
LOOPBACK = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
SLICES: dict[str, tuple[str, list[Told]]] = {
    "no type": ("endpoints: []", [Told(1, "addressType", REQUIRED)]),
    "an unknown type": (
        "addressType: IP\nendpoints: []",
        [Told(4, "addressType", 'Unsupported value: "IP": supported values: "FQDN", "IPv4", "IPv6"')],
    ),
    "no endpoints at all": ("addressType: IPv4", []),
    "an endpoint without an address": (
        "addressType: IPv4\nendpoints:\n- addresses: []",
        [Told(6, "endpoints[0].addresses", "Required value: must contain at least 1 address")],
    ),
    "the other family": (
        "addressType: IPv4\nendpoints:\n- addresses:\n  - 10.1.1.1\n  - fd00::1",
        [Told(8, "endpoints[0].addresses[1]", 'Invalid value: "fd00::1": must be a valid IPv4 address')],
    ),
    "loopback": (
        "addressType: IPv6\nendpoints:\n- addresses: ['::1']",
        [Told(6, "endpoints[0].addresses[0]", f'Invalid value: "::1": {LOOPBACK}')],
    ),
    "a name that is not whole": (
        "addressType: FQDN\nendpoints:\n- addresses: [example]",
        [Told(6, "endpoints[0].addresses[0]", 'Invalid value: "example": should be a domain with at least two')],
    ),
    "one port name twice": (
        "addressType: IPv4\nports:\n- {name: a, port: 1}\n- {name: a, port: 2}",
        [Told(7, "ports[1].name", 'Duplicate value: "a"')],
    ),
    "two ports without a name": (
        "addressType: IPv4\nports:\n- {port: 1}\n- {port: 2}",
        [Told(7, "ports[1].name", 'Duplicate value: ""')],
    ),
    "a port out of range, a protocol nobody speaks": (
        "addressType: IPv4\nports:\n- {port: 0, protocol: ICMP}",
        [
            Told(6, "ports[0].port", "Invalid value: 0: must be between 1 and 65535, inclusive"),
            Told(6, "ports[0].protocol", 'Unsupported value: "ICMP"'),
        ],
    ),
    "a node's name in capitals": (
        "addressType: IPv4\nendpoints:\n- addresses: [10.1.1.1]\n  nodeName: Node1",
        [Told(7, "endpoints[0].nodeName", 'Invalid value: "Node1": a lowercase RFC 1123 subdomain must consist of')],
    ),
    "too many endpoints": (
        "addressType: IPv4\nendpoints:\n" + "- addresses: [10.1.1.1]\n" * 1001,
        [Told(5, "endpoints", "Too many: 1001: must have at most 1000 items")],
    ),
}


@pytest.mark.parametrize("name", SLICES)
def test_endpoint_slices(name: str) -> None:
    text, expected = SLICES[name]
    check(SLICE + text, expected)


ENDPOINTS = "apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\nsubsets:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- ports: [{port: 80}]", [Told(5, "subsets[0]", "Required value: must specify `addresses` or")]),
        (
            "- addresses:\n  - ip: 127.0.0.1\n  notReadyAddresses:\n  - ip: no",
            [
                Told(8, "subsets[0].notReadyAddresses[0].ip", "expected a string, found true or false: false"),
            ],
        ),
        (
            "- addresses:\n  - ip: 127.0.0.1\n  notReadyAddresses:\n  - ip: 10.1",
            [Told(8, "subsets[0].notReadyAddresses[0].ip", "expected a string, found a number: 10.1")],
        ),
        (
            "- addresses:\n  - ip: 127.0.0.1\n  notReadyAddresses:\n  - ip: fe80::1",
            [
                Told(6, "subsets[0].addresses[0].ip", f'Invalid value: "127.0.0.1": {LOOPBACK}'),
                Told(8, "subsets[0].notReadyAddresses[0].ip", 'Invalid value: "fe80::1": may not be in the link-local'),
            ],
        ),
        (
            "- addresses: [{ip: 10.1.1.1}]\n  ports:\n  - {port: 80}\n  - {port: 81, name: b}",
            [Told(7, "subsets[0].ports[0].name", REQUIRED)],
        ),
    ],
)
def test_endpoints(text: str, expected: list[Told]) -> None:
    check(ENDPOINTS + text, expected)


POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n"
PODS: dict[str, tuple[str, list[Told]]] = {
    "no containers": ("  containers: []", [Told(5, "spec.containers", REQUIRED)]),
    "no image, no name": (
        "  containers:\n  - command: [a]",
        [Told(6, "spec.containers[0].name", REQUIRED)],
    ),
    "no image": ("  containers:\n  - name: a", [Told(6, "spec.containers[0].image", REQUIRED)]),
    "one name twice": (
        "  containers:\n  - {name: a, image: i}\n  - {name: a, image: i}",
        [Told(7, "spec.containers[1].name", 'Duplicate value: "a"')],
    ),
    "ports": (
        "  containers:\n  - name: a\n    image: i\n    ports:\n    - containerPort: 70000\n"
        "    - {containerPort: 80, name: Web}\n    - {containerPort: 81, name: b, protocol: http}\n"
        "    - {containerPort: 82, name: b}",
        [
            Told(9, "spec.containers[0].ports[0].containerPort", "Invalid value: 70000: must be between 1 and 65535"),
            Told(10, "spec.containers[0].ports[1].name", 'Invalid value: "Web": must contain only'),
            Told(11, "spec.containers[0].ports[2].protocol", 'Unsupported value: "http"'),
            Told(12, "spec.containers[0].ports[3].name", 'Duplicate value: "b"'),
        ],
    ),
    "policies": (
        "  restartPolicy: never\n  dnsPolicy: Cluster\n  terminationGracePeriodSeconds: -1\n"
        "  containers: [{name: a, image: i, imagePullPolicy: Sometimes}]",
        [
            Told(5, "spec.restartPolicy", 'Unsupported value: "never"'),
            Told(6, "spec.dnsPolicy", 'Unsupported value: "Cluster"'),
            Told(7, "spec.terminationGracePeriodSeconds", "Invalid value: -1: must be greater than or equal to 0"),
            Told(8, "spec.containers[0].imagePullPolicy", 'Unsupported value: "Sometimes"'),
        ],
    ),
    "a probe that asks in two ways, and one that does not ask": (
        "  containers:\n  - name: a\n    image: i\n    readinessProbe:\n      httpGet: {port: 80}\n"
        "      tcpSocket: {port: 80}\n    livenessProbe: {periodSeconds: 3}",
        [
            Told(10, "spec.containers[0].readinessProbe.tcpSocket", "Forbidden: may not specify more than 1 handler"),
            Told(11, "spec.containers[0].livenessProbe", "Required value: must specify a handler type"),
        ],
    ),
    "a volume that is not there": (
        "  volumes: [{name: b}]\n  containers:\n  - name: a\n    image: i\n"
        "    volumeMounts: [{name: c, mountPath: /c}]",
        [Told(9, "spec.containers[0].volumeMounts[0].name", 'Not found: "c"')],
    ),
    "a null where a container should be": (
        "  containers: [null]",
        [Told(5, "spec.containers[0]", "expected an object, found nothing")],
    ),
    "memory of no size": (
        "  containers:\n  - {name: a, image: i, resources: {limits: {memory: 64MB}}}",
        [Told(6, "spec.containers[0].resources.limits.memory", "expected a quantity like 100m or 64Mi")],
    ),
}


@pytest.mark.parametrize("name", PODS)
def test_pods(name: str) -> None:
    text, expected = PODS[name]
    check(POD + text, expected)


def test_a_requested_address_must_be_one() -> None:
    text = (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    hoplab.dev/ip: 10.1.1\n"
        "spec: {containers: [{name: a, image: i}]}"
    )
    check(text, [Told(6, "metadata.annotations[hoplab.dev/ip]", 'Invalid value: "10.1.1": must be a valid IP')])


def workload(kind: str, spec: str, version: str = "apps/v1") -> str:
    return f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n{spec}"


TEMPLATE = "  template:\n    metadata: {labels: {app: a}}\n    spec: {containers: [{name: a, image: i}]}\n"
WORKLOADS: dict[str, tuple[str, list[Told]]] = {
    "no template": (workload("ReplicationController", "  replicas: 1", "v1"), [Told(4, "spec.template", REQUIRED)]),
    "no selector": (workload("Deployment", TEMPLATE), [Told(4, "spec.selector", REQUIRED)]),
    "an empty selector": (
        workload("Deployment", "  selector: {}\n" + TEMPLATE),
        [Told(5, "spec.selector", "Invalid value: {}: empty selector is invalid for Deployment")],
    ),
    "a selector of something else": (
        workload("ReplicaSet", "  selector: {matchLabels: {app: b}}\n" + TEMPLATE),
        [
            Told(
                7,
                "spec.template.metadata.labels",
                'Invalid value: {"app":"a"}: `selector` does not match template `labels`',
            )
        ],
    ),
    "expressions": (
        workload(
            "Deployment",
            "  selector:\n    matchExpressions:\n    - {key: app, operator: Is, values: [a]}\n"
            "    - {key: app, operator: In}\n    - {key: app, operator: Exists, values: [a]}\n" + TEMPLATE,
        ),
        [
            Told(7, "spec.selector.matchExpressions[0].operator", 'Invalid value: "Is": not a valid selector operator'),
            Told(8, "spec.selector.matchExpressions[1].values", "Required value: must be specified when `operator`"),
            Told(9, "spec.selector.matchExpressions[2].values", "Forbidden: may not be specified when `operator`"),
        ],
    ),
    "fewer than none": (
        workload("ReplicationController", "  replicas: -1\n" + TEMPLATE, "v1"),
        [Told(5, "spec.replicas", "Invalid value: -1: must be greater than or equal to 0")],
    ),
    "pods that end": (
        workload(
            "DaemonSet",
            "  selector: {matchLabels: {app: a}}\n" + TEMPLATE.replace("{cont", "{restartPolicy: Never, cont"),
        ),
        [Told(8, "spec.template.spec.restartPolicy", 'Unsupported value: "Never": supported values: "Always"')],
    ),
    "a job that never ends": (
        workload("Job", TEMPLATE, "batch/v1"),
        [Told(7, "spec.template.spec.restartPolicy", 'Required value: valid values: "OnFailure", "Never"')],
    ),
    "a strategy that can do no step": (
        workload(
            "Deployment",
            "  selector: {matchLabels: {app: a}}\n  strategy:\n    rollingUpdate: {maxSurge: 0, maxUnavailable: 0}\n"
            + TEMPLATE,
        ),
        [Told(7, "spec.strategy.rollingUpdate.maxUnavailable", "Invalid value: 0: may not be 0 when `maxSurge` is 0")],
    ),
    "settings of the other strategy": (
        workload(
            "Deployment",
            "  selector: {matchLabels: {app: a}}\n  strategy:\n    type: Recreate\n"
            "    rollingUpdate: {maxSurge: 1}\n" + TEMPLATE,
        ),
        [Told(8, "spec.strategy.rollingUpdate", "Forbidden: may not be specified when strategy `type` is 'Recreate'")],
    ),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_workloads(name: str) -> None:
    text, expected = WORKLOADS[name]
    check(text, expected)


INGRESS = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec:\n"
OLD_INGRESS = INGRESS.replace("networking.k8s.io/v1", "extensions/v1beta1")


def paths(*each: str) -> str:
    return "  rules:\n  - http:\n      paths:\n" + "".join(f"      - {path}\n" for path in each)


BACKEND = "backend: {service: {name: web, port: {number: 80}}}"
INGRESSES: dict[str, tuple[str, list[Told]]] = {
    "nothing": (INGRESS + "  ingressClassName: nginx", [Told(4, "spec", "Invalid value: {}: either `defaultBackend`")]),
    "no path type": (
        INGRESS + paths(f"{{path: /, {BACKEND}}}"),
        [Told(8, "spec.rules[0].http.paths[0].pathType", REQUIRED)],
    ),
    "paths": (
        INGRESS
        + paths(
            f"{{path: a, pathType: Prefix, {BACKEND}}}",
            f"{{path: /a//b, pathType: Exact, {BACKEND}}}",
            f"{{pathType: Regex, path: /, {BACKEND}}}",
        ),
        [
            Told(8, "spec.rules[0].http.paths[0].path", 'Invalid value: "a": must be an absolute path'),
            Told(9, "spec.rules[0].http.paths[1].path", "Invalid value: \"/a//b\": must not contain '//'"),
            Told(10, "spec.rules[0].http.paths[2].pathType", 'Unsupported value: "Regex"'),
        ],
    ),
    "hosts": (
        INGRESS + "  defaultBackend: {service: {name: web, port: {name: http}}}\n  rules:\n"
        "  - host: 10.0.0.1\n  - host: '*.example.com'\n  - host: a_b",
        [
            Told(7, "spec.rules[0].host", 'Invalid value: "10.0.0.1": must be a DNS name, not an IP address'),
            Told(9, "spec.rules[2].host", 'Invalid value: "a_b": a lowercase RFC 1123 subdomain'),
        ],
    ),
    "backends": (
        INGRESS
        + paths(
            "{path: /a, pathType: Exact, backend: {}}",
            "{path: /b, pathType: Exact, backend: {service: {name: web}}}",
            "{path: /c, pathType: Exact, backend: {service: {name: web, port: {name: a, number: 1}}}}",
            "{path: /d, pathType: Exact, backend: {service: {name: web, port: {number: 70000}}}}",
        ),
        [
            Told(8, "spec.rules[0].http.paths[0].backend", "Required value: resource or service backend is required"),
            Told(9, "spec.rules[0].http.paths[1].backend.service.port", "Required value: port name or number"),
            Told(10, "spec.rules[0].http.paths[2].backend.service.port", 'Invalid value: "": cannot set both'),
            Told(
                11, "spec.rules[0].http.paths[3].backend.service.port.number", "Invalid value: 70000: must be between"
            ),
        ],
    ),
    "an old one is told in its own words": (
        OLD_INGRESS + "  backend:\n    serviceName: Web\n    servicePort: 0\n"
        "  rules:\n  - http:\n      paths:\n      - backend:\n          serviceName: a\n          servicePort: -1",
        [
            Told(6, "spec.backend.serviceName", 'Invalid value: "Web": a DNS-1035 label must consist of'),
            Told(7, "spec.backend.servicePort", "Required value: port name or number is required"),
            Told(
                13,
                "spec.rules[0].http.paths[0].backend.servicePort",
                "Invalid value: -1: must be between 1 and 65535, inclusive",
            ),
        ],
    ),
}


@pytest.mark.parametrize("name", INGRESSES)
def test_ingresses(name: str) -> None:
    text, expected = INGRESSES[name]
    check(text, expected)


POLICY = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  podSelector: {}\n"
NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\n"
OTHERS: dict[str, tuple[str, list[Told]]] = {
    "policy: directions": (
        POLICY + "  policyTypes: [Ingress, Ingress, Sideways]",
        [
            Told(6, "spec.policyTypes[1]", 'Duplicate value: "Ingress"'),
            Told(6, "spec.policyTypes[2]", 'Unsupported value: "Sideways": supported values: "Egress", "Ingress"'),
        ],
    ),
    "policy: peers": (
        POLICY
        + "  ingress:\n  - from:\n    - {}\n    - ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16, 10.0.0.0/8]}\n"
        "    - {ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}",
        [
            Told(8, "spec.ingress[0].from[0]", "Required value: must specify a peer"),
            Told(9, "spec.ingress[0].from[1].ipBlock.except[0]", 'Invalid value: "11.0.0.0/16": must be a strict'),
            Told(9, "spec.ingress[0].from[1].ipBlock.except[1]", 'Invalid value: "10.0.0.0/8": must be a strict'),
            Told(10, "spec.ingress[0].from[2]", "Forbidden: may not specify both ipBlock and another peer"),
        ],
    ),
    "policy: ports": (
        POLICY + "  egress:\n  - ports:\n    - {port: web, endPort: 90}\n    - {port: 80, endPort: 79}\n"
        "    - {port: 70000, protocol: ICMP}",
        [
            Told(8, "spec.egress[0].ports[0].port", 'Invalid value: "web": must be specified as a number when'),
            Told(9, "spec.egress[0].ports[1].endPort", "Invalid value: 79: must be greater than or equal to `port`"),
            Told(10, "spec.egress[0].ports[2].protocol", 'Unsupported value: "ICMP"'),
            Told(10, "spec.egress[0].ports[2].port", "Invalid value: 70000: must be between 1 and 65535"),
        ],
    ),
    "node: subnets": (
        NODE + "spec:\n  podCIDR: 10.1.0.0\n  podCIDRs: [10.1.1.0/24, 10.1.2.0/24]",
        [
            Told(5, "spec.podCIDR", 'Invalid value: "10.1.0.0": must be a valid CIDR value'),
            Told(6, "spec.podCIDRs", 'Invalid value: ["10.1.1.0/24","10.1.2.0/24"]: first value must match `podCIDR`'),
            Told(6, "spec.podCIDRs", 'Invalid value: ["10.1.1.0/24","10.1.2.0/24"]: may specify no more than one CIDR'),
        ],
    ),
    "node: a subnet as the chapter prints it": (NODE + "spec: {podCIDR: 10.1.2.0/16}", []),
    "node: addresses": (
        NODE + "status:\n  addresses:\n  - {type: InternalIP, address: node1}\n  - {type: Internal, address: 10.0.0.1}",
        [
            Told(6, "status.addresses[0].address", 'Invalid value: "node1": must be a valid IP address'),
            Told(7, "status.addresses[1].type", 'Unsupported value: "Internal"'),
        ],
    ),
    "config map": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a/b: x\n  c: 5\nbinaryData:\n  d: '%'",
        [Told(6, "data.c", "expected a string, found a whole number: 5; put it in quotes to have the text")],
    ),
    "config map keys": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a/b: x\n  d: z\nbinaryData:\n  d: '%'",
        [
            Told(5, "data[a/b]", 'Invalid value: "a/b": a valid config key must consist of'),
            Told(8, "binaryData.d", 'Invalid value: "d": duplicate of key present in data'),
            Told(8, "binaryData.d", "expected base64"),
        ],
    ),
    "secret": (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  user: YWRtaW4=\n  password: plain text!",
        [Told(6, "data.password", "expected base64")],
    ),
    "namespace": (
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}",
        [Told(3, "metadata.name", 'Invalid value: "a.b": must not contain dots')],
    ),
    "names": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a_b\n  namespace: A\n  labels: {x/y/z: 1a-}",
        [
            Told(4, "metadata.name", 'Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of'),
            Told(5, "metadata.namespace", 'Invalid value: "A": a lowercase RFC 1123 label must consist of'),
            Told(6, "metadata.labels[x/y/z]", 'Invalid value: "x/y/z": a qualified name must consist of'),
            Told(6, "metadata.labels[x/y/z]", 'Invalid value: "1a-": a valid label must be'),
        ],
    ),
    "a made-up name": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}",
        [Told(3, "metadata.name", "Required value: the lab makes no names from generateName")],
    ),
    "no name": ("apiVersion: v1\nkind: ConfigMap", [Told(1, "metadata.name", REQUIRED)]),
    "a kind in another group": (
        "apiVersion: v1\nkind: Deployment\nmetadata: {name: a}",
        [Told(1, "apiVersion", "no kind Deployment in v1; it is in apps/v1, extensions/v1beta1, apps/v1beta1")],
    ),
    "a kind that is no text": (
        "apiVersion: v1\nkind: [Pod]",
        [Told(2, "kind", "expected a string, found a list")],
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds(name: str) -> None:
    text, expected = OTHERS[name]
    check(text, expected)
