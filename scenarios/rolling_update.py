"""A Deployment is replaced under load: no request fails when it is done right, and what each wrong setting costs.

A rollout makes new pods and ends old ones.  A new pod must get no request before it can
answer: its readiness probe says when.  An old pod must go on answering until no rule of any
node leads to it any more: it is marked as terminating first, the rules follow a little later
(the news goes by the API server, the endpoint controller and each kube-proxy: here a quarter
of a second), and its preStop hook has it wait longer than that before its server has to end.
Real clients ask on and on through the balancer; every request is counted.  Then the same
without the readiness probe, without the hook, and with the strategy Recreate.

Try next: `--proxy-mode nftables`; `maxSurge: 1` in manifests/rolling.yaml; a preStop hook that is too short.
"""

import re
from pathlib import Path

from hoplab.scenario.load import following, under_load

TOPOLOGY = "cloud"
MANIFESTS = ["rolling.yaml"]
WITHOUT = {
    "--balancer-mode proxy": "HAProxy tries a refused connection again, up to three times, and so hides from the client"
    " most of what a wrong setting costs",
}
MANIFEST = Path(__file__).parent / "manifests" / "rolling.yaml"
RULES_LAG_S = 0.25
"""How long the news of a change takes to the kube-proxies."""
PATIENCE_S = 3.0
"""How long a client waits: a busy machine that runs the lab is no failure."""
LEAST = 100
"""Requests that a rollout must have met for its count to mean something."""
READINESS = re.compile(r"\n +readinessProbe: .*")
HOOK = re.compile(r"\n +lifecycle: .*")
STRATEGY = re.compile(r"strategy: .*")


def run(lab):
    """Done right; then each setting wrong, one after the other."""
    text = MANIFEST.read_text(encoding="utf-8")
    lab.host("client").send_tcp(lab.service("web"), name="before").expect_complete(
        name="before, a whole exchange passes"
    )
    with following(lab, RULES_LAG_S) as cluster:
        done_right(lab, cluster, text)
        without_probe(lab, cluster, text)
        without_hook(lab, cluster, text)
        recreate(lab, cluster, text)
    after = lab.host("client").send_tcp(lab.service("web"), name="after")
    after.expect_complete(name="after all that, a whole exchange passes, to a pod of the last version")


def replaced(lab, cluster, text, version, timeout_s=1.0):
    """Have the Deployment replaced under load; the load, and the names of the pods before and after."""
    before = names(lab)
    changed = text.replace('version: "1"', f'version: "{version}"')
    with under_load(lab, "client", lab.service("web"), timeout_s=timeout_s) as load:
        cluster.apply(changed)
        cluster.rolled_out("web")
    return load, before, names(lab)


def names(lab):
    """Names of the running pods."""
    return {running.pod.meta.name for running in lab.cluster.running()}


def done_right(lab, cluster, text):
    """Readiness probe, preStop hook, new pods before old ones go."""
    slow = {}
    with under_load(lab, "client", lab.service("web"), path="/slow?ms=400", workers=2, timeout_s=PATIENCE_S) as patient:
        load, before, after = replaced(lab, cluster, text, 2, PATIENCE_S)
    slow["old"] = [each for each in patient.requests if each.pod in before]
    lab.check(
        "done right, no request fails while all pods are replaced",
        not load.failed and len(load.requests) >= LEAST,
        f"0 failures of at least {LEAST} requests",
        load.words,
        load.evidence,
    )
    lab.check(
        "old pods answered, then new ones, and every pod is another one",
        set(load.pods) <= before | after
        and all(load.pods.keys() & some for some in (before, after))
        and not before & after,
        "answers from pods of both versions, from no other",
        ", ".join(f"{pod}: {count}" for pod, count in sorted(load.pods.items())),
    )
    last_old = max((each.started_s for each in load.requests if each.pod in before), default=0)
    late = [each for each in load.requests if each.pod in after and each.started_s > last_old]
    lab.check(
        "from one moment on only new pods answer",
        bool(late) and last_old > 0,
        "requests behind the last one that an old pod answered, all answered by new pods",
        f"{len(late)} requests",
    )
    lab.check(
        "a request that an old pod was answering when it was told to end is answered to its end",
        not patient.failed and bool(slow["old"]),
        "no failure among requests that take 400 ms, some of them to old pods",
        f"{patient.words}; {len(slow['old'])} were answered by old pods",
        patient.evidence,
    )


def without_probe(lab, cluster, text):
    """Without a readiness probe a pod counts as ready as soon as its container runs."""
    load, _before, after = replaced(lab, cluster, HOOK.sub("", READINESS.sub("", text)), 3)
    lab.check(
        "without a readiness probe requests are sent to pods that do not listen yet, and fail",
        bool(load.failed),
        "failures, while the new pods start",
        load.words,
        load.evidence,
    )
    refused = [each for each in load.failed if each.outcome == "ECONNREFUSED"]
    lab.check(
        "they are refused by packets: an RST, for nobody listens",
        bool(refused) and all(each.port in load.refusals for each in refused),
        "an RST came for each refused request",
        f"for {sum(each.port in load.refusals for each in refused)} of {len(refused)}",
        load.evidence,
    )
    lab.check(
        "the refusals end when the pods listen",
        bool(load.failed) and bool(load.pods.keys() & after) and not load.requests[-1].failed,
        "the last request is answered, new pods answer",
        f"the last request was {load.requests[-1].outcome}" if load.requests else "no request",
    )


def without_hook(lab, cluster, text):
    """Pods without a preStop hook end at once when they are told to: faster than the rules follow."""
    load, _before, _after = replaced(lab, cluster, text, 4)
    lab.check(
        "without a preStop hook pods are gone before the rules know it, and requests fail",
        bool(load.failed),
        "failures, for as long as rules lead to pods that ended",
        load.words,
        load.evidence,
    )
    lab.check(
        "it costs few requests: the rules follow within a fraction of a second",
        len(load.failed) < len(load.requests) / 4,
        "less than a quarter of the requests",
        load.words,
    )


def recreate(lab, cluster, text):
    """Recreate ends every old pod before it makes a new one."""
    load, _before, _after = replaced(lab, cluster, STRATEGY.sub("strategy: {type: Recreate}", text), 5)
    lab.check(
        "Recreate: for as long as the new pods start nobody answers",
        load.silence_s >= 0.5 and len(load.failed) >= 4,
        "half a second without an answer, at least: what the server needs to start",
        f"{load.silence_s:.2f} s without an answer; {load.words}",
        load.evidence,
    )
