"""The ingress controller in a cluster: what it says of Ingresses, a text that nginx refuses, its own end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.scenario.labrun import run_scenario

pytestmark = [pytest.mark.lab, pytest.mark.needs("nginx")]

SCRIPT = '''
import os, signal

MANIFESTS = ["5-2-1_nginx.yaml", "5-2-1_echoserver.yaml", "5-2-1_ingress.yaml"]
ADDONS = ["ingress"]
BAD = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: bad, annotations: {nginx.ingress.kubernetes.io/configuration-snippet: "no such directive;"}}
spec:
  rules:
  - {host: bad.k8s, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: nginx, port: {number: 80}}}}]}}
"""
GOOD = BAD.replace("no such directive;", "add_header X-Snippet yes;")


def run(lab):
    entry = lab.service("nginx-ingress-controller", "kube-system")
    pod = lab.pod("nginx-ingress-controller", "kube-system").namespace

    def ask(host, path="/"):
        return lab.host("client").send_tcp(entry, host=host, path=path).result.http

    def check(name, expected, observed):
        lab.check(name, observed == expected, expected, observed)

    status = lab.cluster.store.find("Ingress", "ingress-example").document["status"]
    check("status", {"loadBalancer": {"ingress": [{"ip": entry.vip}]}}, status)
    lab.apply(BAD)
    check("a refused text changes nothing", 200, ask("devops.k8s", "/welcome").status)
    check("its host is not there", 404, ask("bad.k8s").status)
    lab.apply(GOOD)
    check("a better one is taken", "yes", ask("bad.k8s").headers.get("x-snippet"))
    nginx = lab.cluster.containers.program(pod, "nginx-ingress-controller")
    os.kill(nginx.pid, signal.SIGKILL)
    nginx.wait(5)
    lab.converge()
    after = lab.cluster.containers.program(pod, "nginx-ingress-controller")
    check("its kubelet started it again", True, after.pid != nginx.pid and after.ended is None)
    check("and it serves", 200, ask("devops.k8s", "/welcome").status)
'''


def test_it_follows_refuses_and_comes_back(tmp_path: Path) -> None:
    script = tmp_path / "controller.py"
    script.write_text(SCRIPT)
    report = run_scenario(str(script), tmp_path)
    assert [(check.name, check.observed) for check in report.checks if not check.passed] == []
    refused = [problem for problem in report.problems if "nginx refuses its new configuration" in problem]
    assert len(refused) == 1
    assert 'unknown directive "no" in nginx.conf' in refused[0]
