"""The chapter as a session: what its reader types, at a lab of one node, with the kubectl of this machine.

Each output is held against the chapter's own, field by field.  Where today's programs
print something else than those of 2017, the test says what and why.
"""

import json
import re

import pytest

from tests.lab.labs.labtool import MANIFESTS, SEED, somebody
from tests.waiting import until

pytestmark = pytest.mark.lab

ALL = {"0", "all"}
"""How iptables names "any protocol": 0 with -n since 1.8.9, `all` before."""
TCP = {"6", "tcp"}
ANYWHERE = "0.0.0.0/0"

# The chapter's pods had 10.1.0.4 and 10.1.0.5: something else had the two before.
EARLIER = """
apiVersion: v1
kind: Pod
metadata: {name: one, annotations: {hoplab.dev/ip: 10.1.0.2}}
spec: {containers: [{name: shell, image: busybox}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, annotations: {hoplab.dev/ip: 10.1.0.3}}
spec: {containers: [{name: shell, image: busybox}]}
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chapter")
    with somebody(folder / "run") as someone:
        (folder / "earlier.yaml").write_text(EARLIER)
        someone.good("up", "single", "--detach", "--kubernetes", "1.7", "-f", folder / "earlier.yaml")
        yield someone


@pytest.fixture(scope="module")
def service(user, tmp_path_factory):
    """The chapter's ReplicationController and Service; the addresses that the API server chose are written in."""
    file = tmp_path_factory.mktemp("service") / "nodeport.yaml"
    text = (SEED / "3-2-3_nodeport.yaml").read_text()
    assert "clusterIP" not in text
    text = text.replace("  type: NodePort\n", "  type: NodePort\n  clusterIP: 10.0.0.167\n")
    file.write_text(text.replace("    targetPort: 80\n", "    targetPort: 80\n    nodePort: 32261\n"))
    created = user.good("kubectl", "create", "-f", SEED / "3-2-3_rc1.yaml")
    assert created == "replicationcontroller/nginx-1.12 created\n"
    assert user.good("kubectl", "create", "-f", file) == "service/nginx-nodeport created\n"
    addresses = ("kubectl", "get", "endpoints", "nginx-nodeport", "-o", "jsonpath={.subsets[*].addresses[*].ip}")
    until(lambda: len(user.good(*addresses).split()) == 2, "both pods to be endpoints")


def described(text):
    """`kubectl describe` as fields."""
    fields = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith(" "):
            fields.setdefault(name, value.strip())
    return fields


def listed(text):
    """`iptables -nL` as chains: how often it is referred to (or its policy), and its rules as fields."""
    chains, rules = {}, []
    for line in text.splitlines():
        if head := re.fullmatch(r"Chain (\S+) \((.*)\)", line):
            rules = []
            chains[head[1]] = (head[2], rules)
        elif line and not line.startswith("target "):
            rules.append(line.split(None, 5) + [""] * (6 - len(line.split(None, 5))))
    return chains


def nat(user):
    return listed(user.good("exec", "node1", "--", "iptables", "-t", "nat", "-nL"))


def comment(rule):
    return re.search(r"/\* (.*?) \*/", rule[5])[1]


def test_cat_the_cni_configuration(user):
    """`minikube ssh`, then `cat /etc/cni/net.d/k8s.conf`."""
    there = user.good("shell", "node1", input="cat /etc/cni/net.d/k8s.conf\n")
    assert json.loads(there) == json.loads((SEED / "k8s.conf").read_text())


def test_describe_the_service(user, service):
    """Today's kubectl takes endpoints from EndpointSlices, which have no order; that of 2017 had them sorted."""
    fields = described(user.good("kubectl", "describe", "svc", "nginx-nodeport"))
    fields["Endpoints"] = ",".join(sorted(fields["Endpoints"].split(",")))
    assert {name: re.sub(r"\s+", " ", fields[name]) for name in CHAPTERS_SERVICE} == CHAPTERS_SERVICE


CHAPTERS_SERVICE = {
    "Name": "nginx-nodeport",
    "Namespace": "default",
    "Selector": "project=chapter3,service=web",
    "Type": "NodePort",
    "IP": "10.0.0.167",
    "Port": "<unset> 80/TCP",
    "NodePort": "<unset> 32261/TCP",
    "Endpoints": "10.1.0.4:80,10.1.0.5:80",
}


def test_the_chains_of_the_service(user, service):
    """One rule more than in 2017's listing: the lab's kube-proxy is told the pods' network (--cluster-cidr).

    The rules of the Service `kubernetes` (10.0.0.1) stand there too; the listing leaves them out.
    """
    chains = nat(user)
    references, rows = chains["KUBE-SERVICES"]
    more, *rules = (row for row in rows if row[4] != "10.0.0.1")
    assert references == "2 references"
    assert (more[0], more[3:5]) == ("KUBE-MARK-MASQ", ["!10.1.0.0/16", "10.0.0.167"])
    first = rules[0]
    assert (first[0], first[1] in TCP, first[3:5]) == ("KUBE-SVC-37ROJ3MK6RKFMQ2B", True, [ANYWHERE, "10.0.0.167"])
    assert comment(first) == "default/nginx-nodeport: cluster IP"
    assert first[5].endswith("tcp dpt:80")
    last = rules[-1]
    assert (last[0], last[1] in ALL, last[3:5]) == ("KUBE-NODEPORTS", True, [ANYWHERE, ANYWHERE])
    assert comment(last) == "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
    assert last[5].endswith("ADDRTYPE match dst-type LOCAL")

    references, rules = chains["KUBE-SVC-37ROJ3MK6RKFMQ2B"]
    assert references == "2 references"
    assert [rule[0] for rule in rules] == ["KUBE-SEP-SVVBOHTYP7PAP3J5", "KUBE-SEP-AYS7I6ZPYFC6YNNF"]
    assert [comment(rule) for rule in rules] == ["default/nginx-nodeport:"] * 2
    assert rules[0][5].endswith("statistic mode random probability 0.50000000000")
    assert "statistic" not in rules[1][5]

    for chain, address in (("KUBE-SEP-SVVBOHTYP7PAP3J5", "10.1.0.4"), ("KUBE-SEP-AYS7I6ZPYFC6YNNF", "10.1.0.5")):
        references, (mark, dnat) = chains[chain]
        assert references == "1 references"
        assert (mark[0], mark[3]) == ("KUBE-MARK-MASQ", address)
        assert (dnat[0], dnat[1] in TCP) == ("DNAT", True)
        assert dnat[5].endswith(f"tcp to:{address}:80")


def test_the_service_answers_inside_and_outside(user, service):
    for place, address in (("pod/one", "10.0.0.167"), ("node1", "10.0.0.167"), ("client", "192.168.99.100:32261")):
        assert "Welcome to nginx" in user.good("exec", place, "--", "curl", "-sf", f"http://{address}/")
    told = user.good("trace", "client", "svc/nginx-nodeport", "-v")
    assert "KUBE-SVC-37ROJ3MK6RKFMQ2B" in told
    assert "192.168.99.100:32261" in told


def test_what_masquerades_the_pods(user, service):
    """POSTROUTING, with the container ids of the chapter's two pods.

    Two things differ from 2017's listing.  The lab has no docker, so its rule for 172.17.0.0/16 is not there.  And
    today's bridge plugin masquerades each pod's own address, where that one had the whole subnet.
    """
    user.good("kubectl", "delete", "-f", SEED / "3-2-3_rc1.yaml", "--now")
    user.good("kubectl", "wait", "pod", "-l", "service=web", "--for=delete", "--timeout=20s")
    first, second = (MANIFESTS / "chapter-1.yaml").read_text().split("---\n", 1)
    for text, name in ((first, "first"), (second, "second")):
        assert user.good("kubectl", "create", "-f", "-", input=text) == f"pod/{name} created\n"
        user.good("kubectl", "wait", f"pod/{name}", "--for=condition=Ready", "--timeout=20s")
    policy, rules = nat(user)["POSTROUTING"]
    assert policy == "policy ACCEPT"
    assert (rules[0][0], rules[0][1] in ALL, rules[0][3:5]) == ("KUBE-POSTROUTING", True, [ANYWHERE, ANYWHERE])
    assert comment(rules[0]) == "kubernetes postrouting rules"
    chapters = [rule for rule in rules if rule[3] in ("10.1.0.4", "10.1.0.5")]
    assert [(rule[0], rule[1] in ALL, rule[4]) for rule in chapters] == [
        ("CNI-25df152800e33f7b16fc085a", True, ANYWHERE),
        ("CNI-f1931fed74271104c4d10006", True, ANYWHERE),
    ]
    assert [comment(rule) for rule in chapters] == [
        'name: "rkt.kubernetes.io" id: "328287949eb4d4483a3a8035d65cc326417ae7384270844e59c2f4e963d87e18"',
        'name: "rkt.kubernetes.io" id: "08c562ff4d67496fdae1c08facb2766ca30533552b8bd0682630f203b18f8c0a"',
    ]


def test_the_ingress(user):
    """`minikube addons list`, `enable ingress`, and the three manifests of the old API versions."""
    assert "- ingress: disabled" in user.good("addons", "list").splitlines()
    assert user.good("addons", "enable", "ingress") == "ingress was successfully enabled\n"
    assert "- ingress: enabled" in user.good("addons", "list").splitlines()
    pods = user.good("kubectl", "get", "pods", "--namespace", "kube-system", "--no-headers")
    assert {line.rsplit("-", 1)[0] for line in pods.split() if "-" in line} == {
        "default-http-backend",
        "nginx-ingress-controller",
    }
    for name in ("nginx", "echoserver", "ingress"):
        # kubectl 1.32 can't read extensions/v1beta1 by itself; the server tells it what is there.
        user.good("kubectl", "create", "-f", SEED / f"5-2-1_{name}.yaml")
    for name in ("nginx", "echoserver"):
        user.good("kubectl", "rollout", "status", f"deployment/{name}", "--timeout=20s")
    address = user.good(
        "kubectl", "get", "svc", "-n", "kube-system", "nginx-ingress-controller", "-o", "jsonpath={.spec.clusterIP}"
    )

    def asked(path):
        command = ["curl", "-s", "-w", "\n%{http_code}", "-H", "Host: devops.k8s", f"http://{address}{path}"]
        body, _, code = user.good("exec", "node1", "--", *command).rpartition("\n")
        return int(code), body

    until(lambda: asked("/welcome")[0] == 200, "nginx behind the Ingress")
    assert "Welcome to nginx" in asked("/welcome")[1]
    assert asked("/echoserver")[0] == 200
    assert asked("/nowhere") == (404, "default backend - 404")
    assert user.good("addons", "disable", "ingress") == "ingress was successfully disabled\n"
    assert "- ingress: disabled" in user.good("addons", "list").splitlines()
    assert user("addons", "enable", "ingres").returncode == 2


def test_pods_reach_the_api_server_by_its_service(user):
    """Nobody who has no token gets more than that word of it."""
    told = user.good("exec", "pod/one", "--", "curl", "-sk", "https://10.0.0.1/api")
    assert '"reason":"Unauthorized"' in told
    assert "10.0.0.1" in user.good("kubectl", "get", "svc", "kubernetes")
    user.good("kubectl", "delete", "svc", "kubernetes")
    user.good("kubectl", "wait", "--for=create", "svc/kubernetes", "--timeout=10s")
