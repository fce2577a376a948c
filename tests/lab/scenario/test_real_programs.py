"""Containers that are real programs: nginx, shells' commands, their environment, volumes and failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hoplab.errors import CannotRunHere
from tests.lab.scenario.labrun import run_scenario

pytestmark = [pytest.mark.lab, pytest.mark.needs("nginx")]

MANIFEST = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: site}
data:
  site.conf: |
    server { listen 8000; root /usr/share/nginx/html; location /mine { return 200 "from the ConfigMap\\n"; } }
  greeting: hello
---
apiVersion: v1
kind: ConfigMap
metadata: {name: whole}
data:
  nginx.conf: |
    user nginx;
    worker_processes auto;
    error_log /var/log/nginx/error.log notice;
    pid /var/run/nginx.pid;
    events { worker_connections 64; }
    http {
      include /etc/nginx/mime.types;
      access_log /var/log/nginx/access.log;
      server { listen 8001; root /usr/share/nginx/html; location /own { return 200 "a file of its own\\n"; } }
    }
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {password: sesame}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: node1
  containers: [{name: nginx, image: "nginx:1.12", ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: site}
spec:
  nodeName: node1
  volumes: [{name: conf, configMap: {name: site, items: [{key: site.conf, path: site.conf}]}}]
  containers:
  - {name: nginx, image: nginx, volumeMounts: [{name: conf, mountPath: /etc/nginx/conf.d}]}
---
apiVersion: v1
kind: Pod
metadata: {name: whole}
spec:
  nodeName: node1
  volumes: [{name: conf, configMap: {name: whole}}]
  containers:
  - name: nginx
    image: nginx
    volumeMounts: [{name: conf, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf}]
---
apiVersion: v1
kind: Pod
metadata: {name: page}
spec:
  nodeName: node1
  volumes: [{name: site, configMap: {name: site}}]
  containers:
  - name: nginx
    image: nginx
    volumeMounts: [{name: site, mountPath: /usr/share/nginx/html/greeting.html, subPath: greeting}]
---
apiVersion: v1
kind: Pod
metadata: {name: shell, labels: {tier: test}}
spec:
  nodeName: node2
  volumes:
  - {name: keys, secret: {secretName: keys}}
  - {name: conf, configMap: {name: site}}
  - {name: room, emptyDir: {}}
  containers:
  - name: shell
    image: busybox
    command: [sh, -c]
    args:
    - |
      echo "$GREETING $PASSWORD $(hostname) $POD_IP $NODE $(TIER)"
      cat /keys/password; echo; cat /deep/er/greeting; echo; ls /deep/er
      echo data > /room/file && cat /room/file
      touch /usr/hoplab-was-here 2>&1 | grep -o 'Read-only file system'
      echo tmp > /tmp/hoplab-was-here && echo "etc" > /etc/hoplab-was-here && echo written
      exec sleep 3600
    env:
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: site, key: greeting}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    volumeMounts:
    - {name: keys, mountPath: /keys}
    - {name: conf, mountPath: /deep/er}
    - {name: room, mountPath: /room}
---
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec: {containers: [{name: c, image: alpine, command: [sh, -c, "echo no cheese; exit 3"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: typo}
spec: {containers: [{name: c, image: alpine, command: [no-such-program, x]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: lacking}
spec:
  volumes: [{name: disk, hostPath: {path: /}}, {name: gone, configMap: {name: gone}}]
  containers:
  - name: c
    image: busybox
    args: [sleep, "3600"]
    env: [{name: X, valueFrom: {configMapKeyRef: {name: site, key: nothing}}}]
    volumeMounts: [{name: disk, mountPath: /disk}, {name: gone, mountPath: /gone}]
"""
SCRIPT = """
import time

MANIFESTS = ["programs.yaml"]
CHANGED = "{apiVersion: v1, kind: ConfigMap, metadata: {name: site}, data: {greeting: changed}}"


def wait(lab, condition, name):
    end = time.monotonic() + 5
    seen = condition()
    while not seen and time.monotonic() < end:
        lab.cluster.loop.poll(0.005)
        seen = condition()
    lab.check(name, seen, "within 5 s", seen)


def run(lab):
    node = lab.host("node2")
    web = node.send_tcp(lab.pod("web"), 80)
    lab.check("nginx", "Welcome to nginx!" in web.result.text and web.result.pod == "web", 1, web.result.text)
    own = node.send_tcp(lab.pod("site"), 8000, path="/mine")
    lab.check("own configuration", "from the ConfigMap" in own.result.text, 1, own.result.text)
    whole = node.send_tcp(lab.pod("whole"), 8001, path="/own")
    lab.check("a file of its own", "a file of its own" in whole.result.text, 1, whole.result.text)
    with open(lab.pod("whole").log) as log:
        lab.check("its access log", '"GET /own?token=' in log.read(), "a line for each request", "")
    page = node.send_tcp(lab.pod("site"), 8000)
    lab.check("the image's page", "Welcome to nginx!" in page.result.text, 1, page.result.text)
    with open(lab.pod("shell").log) as log:
        lab.check("shell", True, "", log.read())
    with open(lab.pod("web").log) as log:
        lab.check("access log", '"GET /?token=' in log.read(), "a line for each request", "")
    pages = [node.send_tcp(lab.pod("page"), 80, path=path).result.http.text for path in ("/", "/greeting.html")]
    lab.check("one page more", "Welcome" in pages[0] and pages[1] == "hello", "the image's page, and hello", pages)
    tried = lab.pod("web").namespace.run(["nginx", "-t"], check=False)
    lab.check("nginx is found in its pod", tried.returncode == 0, "test is successful", tried.stderr)
    for name in ("web", "whole"):
        inside = lab.pod(name).namespace
        inside.run(["nginx", "-s", "reload"])
        with open(lab.pod(name).log) as log:
            wait(lab, lambda: "signal 1 (SIGHUP) received" in log.read(), f"nginx -s reload reaches {name}'s own nginx")
    inside = lab.pod("shell").namespace
    lab.apply(CHANGED)
    lab.check("followed", True, "", inside.run(["cat", "/deep/er/greeting", "/keys/password"]).stdout)
    lab.check("ip", True, "", lab.pod("shell").ips[0])
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("programs")
    (folder / "programs.yaml").write_text(MANIFEST)
    (folder / "programs.py").write_text(SCRIPT)
    return run_scenario(str(folder / "programs.py"), folder)


def observed(report: Any, name: str) -> str:
    return str(next(check.observed for check in report.checks if check.name == name))


def test_nginx_is_nginx_with_its_page_or_what_is_mounted(report: Any) -> None:
    assert [(check.name, check.observed) for check in report.checks if not check.passed] == []


def test_a_command_has_its_environment_and_its_volumes_and_can_not_touch_the_machine(report: Any) -> None:
    assert observed(report, "shell").splitlines() == [
        f"hello sesame shell {observed(report, 'ip')} node2 test",
        "sesame",
        "hello",
        "greeting",
        "site.conf",
        "data",
        "Read-only file system",
        "written",
    ]
    for path in ("/usr", "/tmp", "/etc", "/room", "/keys", "/deep"):
        left = Path(path) / "hoplab-was-here" if path in ("/usr", "/tmp", "/etc") else Path(path)
        assert not left.exists()


def test_volumes_follow_their_config_map(report: Any) -> None:
    assert observed(report, "followed") == "changedsesame"


@pytest.mark.parametrize(
    "words",
    [
        "`sh -c echo no cheese; exit 3` ended with 3: no cheese",
        "`no-such-program x` can't be run: no such program",
        "pod lacking: volume disk: the lab has no hostPath volumes",
        "pod lacking: volume gone: no ConfigMap is called default/gone",
        "pod lacking: env X: ConfigMap default/site has no key nothing",
    ],
)
def test_what_can_not_be_had_is_told(report: Any, words: str) -> None:
    assert sum(words in problem for problem in report.problems) == 1


def test_without_nginx_others_go_on_and_the_scenario_that_needs_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoplab.setup.programs.find", lambda name, here="": None)
    report = run_scenario("pod-to-service", tmp_path)
    assert [check.name for check in report.checks if not check.passed] == []
    assert any("no nginx on this machine: the lab's own server stands in" in problem for problem in report.problems)
    with pytest.raises(CannotRunHere, match=r"scenario ingress needs nginx, .* lab.py --setup unpacks it"):
        run_scenario("ingress", tmp_path)
