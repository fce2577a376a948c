"""One entrance for many Services: an Ingress gives requests to Services by their host and path, and 404 to the rest.

Node ports can't repeat, and nodes come and go; an Ingress is one address for everything
that speaks HTTP.  The addon `ingress` brings, into the namespace kube-system, an nginx
ingress controller, a ConfigMap with its settings, and a default backend that answers what
no rule takes.  The controller ends the client's connection and opens one of its own, to a
pod and not to a Service's address: two legs, with nothing in common but the request.  So
the pod sees the controller, and is told of the client by headers.  And each error has its
own cause on the second leg: 502 a refusal, 504 silence, 503 no leg at all.

Try next: `--balancer-mode proxy`, whose balancer is a proxy itself, so that there are three
legs and the controller takes the balancer for the client; and with it `--proxy-protocol`,
which tells who the client is.  Or stay with `--pause` and ask by hand, as the client:
`client curl -v -H 'Host: devops.k8s' http://198.51.100.10/welcome`.
"""

ADDONS = ["ingress"]
NEEDS = ["nginx"]
MANIFESTS = ["5-2-1_nginx.yaml", "5-2-1_echoserver.yaml", "5-2-1_ingress.yaml", "ingress-faults.yaml"]
CLIENT = "203.0.113.10"
HOST = "devops.k8s"
FAULTS = "faults.k8s"


TELL_BY_PROXY_PROTOCOL = """
apiVersion: v1
kind: ConfigMap
metadata: {name: nginx-load-balancer-conf, namespace: kube-system}
data: {use-proxy-protocol: "true"}
"""


def run(lab):
    """What the rules take, what they don't, whom the pods see, how errors differ, and that the controller follows."""
    if lab.cluster.options.proxy_protocol:
        lab.apply(TELL_BY_PROXY_PROTOCOL)
    entry = lab.service("nginx-ingress-controller", "kube-system", port="http")
    controller = lab.pod("nginx-ingress-controller", "kube-system")
    by_path(lab, entry, controller)
    unmatched(lab, entry)
    errors(lab, entry)
    follows(lab, entry)


def ask(lab, entry, host, path, **options):
    """A request of the client for this host and path."""
    options = {"deadline_s": 3.0, "name": f"client asks for {host}{path}", **options}
    return lab.host("client").send_tcp(entry, host=host, path=path, **options)


def last(lab):
    """Number of the leg that the controller opens: a proxying balancer has one before it."""
    return 3 if lab.cluster.options.mode == "proxy" else 2


def behind(lab, sent):
    """The controller's own leg."""
    return sent.leg(last(lab))


def status(lab, sent, code, name):
    """One check: the status that the client was given."""
    page = sent.result.http
    got = f"{page.status}" if page else sent.result.reason or "no answer"
    lab.check(name, page is not None and page.status == code, code, got, [f"flow {sent.flow.name}"])


def pods_of(lab, service):
    """The running pods that carry this label of the chapter."""
    return [running for running in lab.cluster.running() if running.pod.meta.labels.get("service") == service]


def by_path(lab, entry, controller):
    """/welcome is nginx', /echoserver is echoserver's; one of the ways is looked at whole."""
    me = controller.namespace.name
    where = controller.pod.node_name
    welcome = ask(lab, entry, HOST, "/welcome")
    status(lab, welcome, 200, "/welcome is answered")
    text = welcome.result.text
    lab.check(
        "/welcome is nginx' welcome page", "Welcome to nginx!" in text, "Welcome to nginx!", text[-200:] or "nothing"
    )
    behind(lab, welcome).expect_endpoint(
        *pods_of(lab, "nginx"), port=80, name="a pod of the Deployment nginx answers /welcome"
    )

    echoed = ask(lab, entry, HOST, "/echoserver")
    status(lab, echoed, 200, "/echoserver is answered")
    (pod,) = pods_of(lab, "echoserver")
    there = ("client", "lb", where, me)
    first = (("client", "lb"), ("lb", where, me)) if last(lab) == 3 else (there,)
    way = tuple(dict.fromkeys((me, where, pod.pod.node_name, pod.namespace.name)))
    echoed.expect_legs(*first, way, name="two legs: from the client to the controller, from the controller to the pod")
    opened = behind(lab, echoed).flow.sender
    lab.check("the second leg is the controller's own connection", opened == me, me, opened or "there is none")
    seen = sender(lab, echoed)
    echoed.leg(last(lab) - 1).expect_source_seen(
        seen, at=me, name="the controller sees whoever sent to it (policy Local)"
    )
    known = CLIENT if lab.cluster.options.proxy_protocol else seen
    behind(lab, echoed).expect_no_nat(name="the controller reaches the pod itself: no rule of a Service is in between")
    behind(lab, echoed).expect_source_seen(
        controller, at=pod.namespace.name, name="the pod sees the controller as its client"
    )
    echoed.expect_client_told(
        "X-Forwarded-For", known, leg=last(lab), name="X-Forwarded-For tells it who the client is"
    )
    echoed.expect_client_told("X-Real-IP", known, leg=last(lab), name="X-Real-IP tells it, too")
    lines = echoed.result.text.splitlines()
    lab.check(
        "the pod itself says what it was told",
        {f"x-forwarded-for={known}", f"x-real-ip={known}"} <= set(lines),
        f"x-forwarded-for={known}, x-real-ip={known}",
        ", ".join(line for line in lines if line.startswith("x-")) or "no such headers",
    )
    lab.check(
        "the path is rewritten: the pod is asked for /",
        any(line.startswith("real path=/?") for line in lines),
        "real path=/",
        next((line for line in lines if line.startswith("real path=")), "no page of echoserver's"),
    )


def sender(lab, sent):
    """Whom the controller has to see: the client, or a proxying balancer's address on the nodes' network."""
    if last(lab) == 2:
        return CLIENT
    hops = sent.leg(2).flow.forward
    return hops[0].before.src if hops else "the balancer's address"


def unmatched(lab, entry):
    """What no rule takes goes to the default backend, which says 404."""
    default = lab.pod("default-http-backend", "kube-system")
    for host, path, name in (
        (HOST, "/nothing", "a path that no rule has"),
        ("other.k8s", "/welcome", "a host that no rule has"),
    ):
        sent = ask(lab, entry, host, path)
        status(lab, sent, 404, f"{name}: 404")
        behind(lab, sent).expect_endpoint(
            default, port=8080, name=f"{name}: the second leg leads to the default backend"
        )


def says(lab, words, name):
    """One check: the controller's own log has these words."""
    with open(lab.pod("nginx-ingress-controller", "kube-system").log, encoding="utf-8") as log:
        lines = [line.strip() for line in log if words in line]
    lab.check(name, bool(lines), words, lines[-1] if lines else "no such line in the controller's log")


def errors(lab, entry):
    """Three errors that a client can't tell apart by looking, and that the second leg tells apart at once."""
    refused = ask(lab, entry, FAULTS, "/wrong-port")
    status(lab, refused, 502, "a port that no pod listens on: 502 Bad Gateway")
    behind(lab, refused).expect_outcome("rejected", name="502: the pod refused the second leg (RST)")

    says(lab, "Connection refused) while connecting to upstream", "502: the controller's log says so")

    # A firewall inside the pod: what comes for its port is dropped without a word.
    mute = lab.pod("mute")
    mute.namespace.run(["nft", "-f", "-"], DROP)
    silent = ask(lab, entry, FAULTS, "/mute", deadline_s=6.0)
    status(lab, silent, 504, "a pod that says nothing: 504 Gateway Timeout")
    second = behind(lab, silent).flow
    syns = [p for p in second.passages if p.label == "SYN" and p.hops[-1].node == mute.namespace.name]
    lab.check(
        "504: the second leg came to the pod, and nothing came back",
        bool(syns) and not second.reply,
        "SYN seen at the pod, no answer from it",
        f"{len(syns)} SYN at {mute.namespace.name}, {'an answer' if second.reply else 'no answer'}",
        [f"frame {number}" for p in syns for number in p.hops[-1].frames],
    )
    waited_ms = (silent.result.ended_ns - silent.result.started_ns) / 1e6
    lab.check(
        "504: the controller waited as long as proxy-connect-timeout says",
        900 <= waited_ms < 4000,
        "1 s, then the answer",
        f"{waited_ms:.0f} ms",
    )

    says(lab, "upstream timed out", "504: the controller's log says so")

    nobody = ask(lab, entry, FAULTS, "/nobody")
    status(lab, nobody, 503, "a Service without pods: 503 Service Unavailable")
    opened = [leg for leg in nobody.flow.legs if leg.number >= last(lab)]
    lab.check(
        "503: the controller opened no second leg",
        not opened and not nobody.flow.doubtful,
        "the client's answer, and no connection of the controller's",
        "; ".join(leg.joined_by[0] for leg in opened) or f"none, and {nobody.flow.doubtful} doubtful ones",
    )


DROP = "table inet firewall { chain input { type filter hook input priority 0; tcp dport 80 drop; }; }\n"


def follows(lab, entry):
    """A pod goes and another one comes: the controller's requests follow."""
    before = {running.pod.meta.name for running in pods_of(lab, "nginx")}
    gone = sorted(before)[0]
    lab.delete_pod(gone)
    now = {running.pod.meta.name for running in pods_of(lab, "nginx")}
    answered = [ask(lab, entry, HOST, "/welcome").pod for _ in range(4)]
    lab.check(
        "after a pod was replaced, the new one is asked as well, and the old one no more",
        set(answered) == now and gone not in answered,
        ", ".join(sorted(now)),
        ", ".join(answered),
    )
