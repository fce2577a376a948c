"""A lab that stays follows every change at once: rules, pods, probes, restarts, graceful ends."""

from __future__ import annotations

import time

import pytest

from tests.lab.cluster.livelab import Live, in_lab
from tests.lab.scenario.labrun import run_scenario

pytestmark = pytest.mark.lab

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {app}}}, ports: [{{port: 80}}]}}
---
"""


def deployment(name, replicas, more="", image="hoplab/whoami"):
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - {{name: c, image: "{image}", ports: [{{containerPort: 80}}]{more}}}
---
"""


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_change_is_in_the_rules_of_every_node_within_a_tenth_of_a_second(mode):
    def use(live: Live):
        names = [f"svc{number}" for number in range(50)]
        live.apply("".join(SERVICE.format(name=name, app="web") for name in names) + deployment("web", 4))
        follower = live.cluster.follow()
        live.until("four pods", lambda: live.ready("web-") == 4)
        live.run_for(0.2)
        took = []
        # Other tests run on this machine at the same time: three quick ones tell what the lab itself takes.
        while sum(each < 0.1 for each in took) < 3 and len(took) < 40:
            number = len(took)
            rounds = follower.rounds
            started = time.monotonic()
            live.apply(SERVICE.format(name=f"new{number}", app="web"))
            live.until("the controllers", lambda rounds=rounds: follower.rounds > rounds)
            took.append(time.monotonic() - started)
            ip = live.store.get("Service", f"new{number}").spec["clusterIP"]
            for agent in live.cluster.nodes.values():
                argv = ["iptables-save", "-t", "nat"] if mode == "iptables" else ["nft", "list", "ruleset"]
                assert ip in agent.namespace.run(argv).stdout
        assert live.answer(f"new{len(took) - 1}").startswith("web-")
        return sorted(took)

    from hoplab.cluster.options import CLUSTER_CIDR
    from hoplab.dataplane.config import ProxyConfig

    took = in_lab(use, proxy=ProxyConfig(mode=mode, cluster_cidrs=(CLUSTER_CIDR,)))
    assert took[2] < 0.1, took


PROBED = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 2
  restartPolicy: {policy}
  containers:
  - name: c
    image: {image}
    ports: [{{name: web, containerPort: 80}}]
    {more}
---
"""


def pod(name, more="", image="hoplab/whoami", policy="Always"):
    return PROBED.format(name=name, more=more, image=image, policy=policy)


def probe(kind, action, **numbers):
    numbers = {"periodSeconds": 1, **numbers}
    return f"{kind}Probe: {{{action}, " + ", ".join(f"{key}: {value}" for key, value in numbers.items()) + "}"


HTTP = "httpGet: {path: /healthz, port: web}"
SLOW = 'env: [{name: HOPLAB_STARTUP_SECONDS, value: "1.2"}]'


def test_probes_decide_who_is_ready_and_who_is_restarted():
    def use(live: Live):
        live.apply(
            pod("http", f"{probe('readiness', HTTP)}\n    {SLOW}")
            + pod("tcp", probe("readiness", "tcpSocket: {port: 80}"))
            + pod("exec", probe("readiness", "exec: {command: [test, -e, /tmp/ready]}", failureThreshold=1))
            + pod("sick", probe("liveness", 'exec: {command: ["false"]}', failureThreshold=2))
            + pod(
                "starting",
                probe("startup", HTTP, failureThreshold=5)
                + "\n    "
                + probe("liveness", HTTP, failureThreshold=1)
                + f"\n    {SLOW}",
            )
            + pod("lost", probe("readiness", "httpGet: {path: /status/500, port: web}"))
            + pod("grpc", probe("readiness", "grpc: {port: 80}"))
            + SERVICE.format(name="http", app="http")
        )
        live.cluster.follow()
        live.until("the first pods", lambda: len(live.cluster.running()) == 7)
        assert live.endpoints("http") == [(False, False, False)]
        live.until("the one with a TCP probe", lambda: live.ready("tcp") == 1)
        live.until("the slow one", lambda: live.ready("http") == 1)
        live.until("its endpoint", lambda: live.endpoints("http") == [(True, True, False)])
        assert "Unhealthy" in live.reasons("http")
        live.until("a restart", lambda: live.container("sick")["restartCount"] >= 1)
        killed = live.reasons("sick")
        assert killed.index("Unhealthy") < killed.index("Killing")
        live.until("the one that starts slowly", lambda: live.ready("starting") == 1)
        assert live.container("starting")["restartCount"] == 0
        assert live.ready("exec") == live.ready("lost") == live.ready("grpc") == 0
        said = [e.document["message"] for e in live.store.each("Event") if e.document["reason"] == "Unhealthy"]
        assert "Readiness probe failed: HTTP probe failed with statuscode: 500" in said
        assert any("grpc probes can't be made here" in message for message in said)
        live.cluster.running()
        running = live.cluster.pod("exec")
        running.namespace.run(["touch", "/tmp/ready"])
        live.until("the file to be seen", lambda: live.ready("exec") == 1)
        running.namespace.run(["rm", "/tmp/ready"])
        live.until("the file to be missed", lambda: live.ready("exec") == 0)

    in_lab(use)


LIFE = (
    pod("kind", 'lifecycle: {preStop: {exec: {command: [sleep, "0.4"]}}}')
    + pod("waiting", "lifecycle: {preStop: {sleep: {seconds: 1}}}")
    + pod("asked", "lifecycle: {preStop: {httpGet: {path: /status/500, port: web}}}")
    + pod("deaf", 'command: [sh, -c, "trap : TERM; while :; do sleep 0.1; done"]', "busybox")
    + pod("crashing", 'command: [sh, -c, "exit 3"]', "busybox")
    + pod("done", 'command: [sh, -c, "exit 0"]', "busybox", "OnFailure")
    + pod("failed", 'command: [sh, -c, "exit 4"]', "busybox", "Never")
    + SERVICE.format(name="waiting", app="waiting")
    + """
apiVersion: batch/v1
kind: Job
metadata: {name: twice}
spec:
  completions: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: busybox, command: [sh, -c, "sleep 0.1"]}]
"""
)


def test_containers_end_and_are_ended_as_their_pods_say():
    def use(live: Live):
        from hoplab.kube.store import NotFound

        def gone(name):
            try:
                live.store.get("Pod", name)
            except NotFound:
                return True
            return False

        live.apply(LIFE)
        live.cluster.follow()
        live.until("the pods", lambda: live.ready("waiting") == 1 and live.ready("deaf") == 1)
        live.until("the crash loop", lambda: live.container("crashing")["restartCount"] >= 2)
        live.until(
            "its pause",
            lambda: live.container("crashing")["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff",
        )
        assert live.container("crashing")["lastState"]["terminated"]["exitCode"] == 3
        assert live.status("done")["phase"] == "Succeeded"
        assert live.status("failed")["phase"] == "Failed"
        assert live.container("failed")["state"]["terminated"]["exitCode"] == 4
        live.until("the Job", lambda: live.store.get("Job", "twice").status.get("succeeded") == 2)
        assert {"done", "failed"}.isdisjoint(r.pod.meta.name for r in live.cluster.running())
        assert live.answer("waiting") == "waiting"

        started = time.monotonic()
        for name in ("kind", "waiting", "asked", "deaf", "crashing", "done"):
            live.delete("Pod", name)
        live.until("the mark on the endpoint", lambda: live.endpoints("waiting") == [(False, True, True)])
        # Where there is nobody else, who is on his way out still serves.
        assert live.answer("waiting") == "waiting"
        live.until("the one that was asked", lambda: gone("asked"))
        ends = {}
        for name in ("kind", "waiting", "deaf"):
            live.until(f"the end of {name}", lambda name=name: gone(name))
            ends[name] = time.monotonic() - started
        assert 0.4 <= ends["kind"] < 1.0 <= ends["waiting"] < 2.0 <= ends["deaf"] < 4.0, ends
        assert "FailedPreStopHook" in live.reasons("asked")
        assert live.endpoints("waiting") == []
        live.until("nothing more runs", lambda: not live.cluster.running())
        for agent in live.cluster.nodes.values():
            assert [name for name in agent.machine.netlink.links() if name.startswith("veth")] == []

    in_lab(use)


def test_init_containers_run_one_after_the_other_and_a_new_image_restarts_its_container():
    def use(live: Live):
        initial = (
            "initContainers:\n"
            '  - {name: first, image: busybox, command: [sh, -c, "sleep 0.3; echo 1 > /tmp/order"]}\n'
            '  - {name: second, image: busybox, command: [sh, -c, "test -e /tmp/order"]}\n'
            "  containers:"
        )
        live.apply(pod("prepared").replace("containers:", initial))
        live.apply(pod("lost", policy="Never").replace("containers:", initial.replace("-e /tmp", "-e /missing")))
        live.cluster.follow()
        live.until("the first step", lambda: "initContainerStatuses" in live.status("prepared"))
        assert live.status("prepared")["phase"] == "Pending"
        assert live.container("prepared")["state"] == {"waiting": {"reason": "PodInitializing"}}
        live.until("the pod", lambda: live.ready("prepared") == 1)
        codes = [each["state"]["terminated"]["exitCode"] for each in live.status("prepared")["initContainerStatuses"]]
        assert codes == [0, 0]
        live.until("the one that can't", lambda: live.status("lost")["phase"] == "Failed")
        live.apply(pod("prepared", image="hoplab/whoami:2").replace("containers:", initial))
        live.until("the restart", lambda: live.container("prepared")["restartCount"] == 1)
        live.until("the new image", lambda: live.container("prepared")["image"] == "hoplab/whoami:2")
        assert "Killing" in live.reasons("prepared")

    in_lab(use)


def test_a_fault_is_told_and_ends_nothing():
    def use(live: Live):
        taken = "metadata: {{name: {0}, annotations: {{hoplab.dev/ip: {1}}}}}"
        text = (
            "apiVersion: v1\nkind: Pod\n{}\nspec: {{nodeName: node1, containers: [{{name: c, image: pause}}]}}\n---\n"
        )
        live.cluster.follow()
        for name in ("first", "second"):
            live.apply(text.format(taken.format(name, "10.1.1.50")))
            live.until("the first pod", lambda: live.ready("first") == 1)
        live.apply(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: nowhere}\nspec: {nodeName: node9, containers: "
            "[{name: c, image: pause}]}\n"
        )
        live.until("the word of it", lambda: "FailedCreatePodSandBox" in live.reasons("second"))
        assert live.status("second")["phase"] == "Pending"
        live.delete("Pod", "first", grace=0)
        live.until("the second pod has its address", lambda: live.ready("second") == 1)
        assert live.status("second")["podIP"] == "10.1.1.50"
        assert live.status("nowhere")["phase"] == "Pending"

    in_lab(use)


LATE = '''"""A Service whose news takes longer to the nodes than the script stays."""
from hoplab.scenario.load import following
MANIFESTS = ["pod.yaml"]
SERVICE = """%s"""

def run(lab):
    with following(lab, 0.5) as cluster:
        cluster.apply(SERVICE)
        cluster.until("its address", lambda: "clusterIP" in lab.cluster.store.get("Service", "late").spec)
    lab.host("node1").send_tcp(lab.service("late").at_cluster_ip()).expect_complete(name="it is served")
'''


def test_news_that_is_under_way_arrives_before_a_script_follows_no_more(tmp_path):
    (tmp_path / "pod.yaml").write_text(pod("web"))
    script = tmp_path / "late.py"
    script.write_text(LATE % SERVICE.format(name="late", app="web"))
    report = run_scenario(str(script), tmp_path)
    assert [check.name for check in report.checks if check.passed][:1] == ["it is served"]
