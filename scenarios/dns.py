"""Cluster DNS: what a name becomes, which questions it costs, and that the answers are the pods that are reached.

A Service has a name below its namespace: web.default.svc.cluster.local.  A pod's resolver
asks one address for all names, the cluster IP of the Service kube-dns, and kube-proxy sends
its questions to a pod of it like any other packet.  A short name is tried below each search
domain in turn, and as it stands only at last, as long as it has fewer than five dots: so
`web` costs one question, and every name of the outside world three in vain.  A headless
Service's name is the addresses of its ready pods, and a pod with hostname and subdomain has
a name of its own.  An answer that is too long for a datagram is asked for again by TCP.

Try next: `--proxy-mode nftables`; or a lab that stays: `lab.py up --detach -f scenarios/manifests/dns.yaml`,
`lab.py addons enable dns`, `lab.py exec pod/asker -- getent ahosts web`; then apply a Service of your
own by `lab.py kubectl`, and ask for it.
"""

ADDONS = ["dns"]
NEEDS = ["unbound", "dnsmasq"]
MANIFESTS = ["dns.yaml"]
LEAST_NODES = 2
ASKER, HASTY = "pod/asker", "pod/hasty"
ZONE = "cluster.local."
MANY = 40


def run(lab):
    """Short names, long ones, outside ones; headless ones; too long an answer; and a change."""
    short_name(lab)
    search_path(lab)
    outside(lab)
    headless(lab)
    other_types(lab)
    not_there(lab)
    too_long(lab)
    a_change(lab)


def server(lab):
    """The Service kube-dns, by UDP, at its cluster IP."""
    return lab.service("kube-dns", "kube-system", port="dns")


def asked(lab, found, names, title, expected=""):
    """A check of the questions: these names, in this order, all of the server that pods are told of."""
    whom = {one.ends.dst for one in found.asked}
    lab.check(
        title,
        found.names == names and whom == {server(lab).cluster_ip},
        expected or f"{', then '.join(names)}; asked of {server(lab).cluster_ip}",
        "; ".join(found.words) or "no question left the pod",
        [f"frame {one.frame}: {one.words}" for one in found.asked],
    )


def answered(lab, found, addresses, title):
    """A check of what the program was told."""
    lab.check(
        title,
        sorted(found.addresses) == sorted(addresses) and (found.code == 0) == bool(addresses),
        ", ".join(sorted(addresses)) or "no address",
        ", ".join(sorted(found.addresses)) or f"no address (getent ended with {found.code})",
        found.words,
    )


def short_name(lab):
    """A pod asks for `web`: the way of the question, and where the answer leads."""
    service, node = lab.service("web"), lab.pod("kube-dns", "kube-system").pod.node_name
    found = lab.resolve(ASKER, "web", tell=True)
    asked(lab, found, [f"web.default.svc.{ZONE}"], "`web` is asked for as web.default.svc.cluster.local, at once")
    answered(lab, found, [service.cluster_ip], "`web` is the cluster IP of its Service")
    if found.flows:
        question, pod = found.flows[0], lab.pod("kube-dns", "kube-system")
        question.expect_dnat(on="node1", to=pod, port=53, name="the question is DNATed to a pod of kube-dns")
        way = ("node1",) if node == "node1" else ("node1", node)
        question.expect_hops(ASKER, *way, pod.namespace.name, name="and goes there like any packet to a Service")
        question.expect_source_seen(lab.pod("asker"), name="the name server sees the pod that asks")
        question.expect_reply_undone(name="the answer comes from the address that was asked")
    flow = lab.host(ASKER).send_tcp(found.addresses[0] if found.addresses else service.cluster_ip, 80, name="to `web`")
    flow.expect_endpoint(
        lab.pod("web-1"), lab.pod("web-2"), port=80, name="who follows the answer reaches a pod of web"
    )


def search_path(lab):
    """Names of other namespaces, and absolute ones."""
    cart = lab.service("cart", "shop").cluster_ip
    found = lab.resolve(ASKER, "cart.shop")
    names = [f"cart.shop.default.svc.{ZONE}", f"cart.shop.svc.{ZONE}"]
    asked(lab, found, names, "`cart.shop` is tried in the pod's own namespace first, then below svc")
    answered(lab, found, [cart], "and is the Service of the other namespace")
    found = lab.resolve(ASKER, f"cart.shop.svc.{ZONE}")
    asked(lab, found, [f"cart.shop.svc.{ZONE}"], "with a dot at its end a name is asked for as it is, once")
    answered(lab, found, [cart], "and has the same answer")


def outside(lab):
    """Names of the world, with ndots 5 and with ndots 1; and an alias that leads there."""
    name, client = "www.example.com", "203.0.113.10"
    tries = [f"{name}.{domain}" for domain in (f"default.svc.{ZONE}", f"svc.{ZONE}", ZONE)]
    since = lab.observer.mark()
    found = lab.resolve(ASKER, name, tell=True)
    asked(lab, found, [*tries, f"{name}."], "ndots:5: a name of the world is asked for three times in vain first")
    vain = [one.answer.rcode for one in found.asked[:3] if one.answer]
    lab.check(
        "each of the three does not exist",
        vain == ["NXDOMAIN"] * 3,
        "NXDOMAIN three times",
        ", ".join(vain) or "no answer",
    )
    answered(lab, found, [client], "the world's name has the world's address")
    from hoplab.probe.dns_messages import asked_by

    dns = lab.pod("kube-dns", "kube-system").namespace.name
    forwarded = asked_by(lab.observer.evidence(since).frames, dns)
    lab.check(
        "who asked whom: the pod asks kube-dns, and kube-dns asks the world, for the last one alone",
        [(one.message.name, one.ends.dst) for one in forwarded] == [(f"{name}.", "203.0.113.1")],
        f"{dns} asks 203.0.113.1 for {name}.",
        "; ".join(one.words for one in forwarded) or f"no question left {dns}",
        [f"frame {one.frame}: {one.words}" for one in forwarded],
    )
    found = lab.resolve(HASTY, name)
    asked(lab, found, [f"{name}."], "ndots:1 (dnsConfig): the same name costs one question")
    answered(lab, found, [client], "and has the same answer there")
    found = lab.resolve(ASKER, "elsewhere")
    asked(lab, found, [f"elsewhere.default.svc.{ZONE}"], "an ExternalName is asked for like any Service")
    answered(lab, found, [client], "and is the address of the name that it stands for")
    alias = found.last.data("CNAME") if found.last else []
    lab.check(
        "by an alias", alias == [f"{name}."], f"CNAME {name}.", f"CNAME {', '.join(alias) or 'none'}", found.words
    )


def headless(lab):
    """The name of a headless Service is its pods; each of them has a name."""
    pods = [lab.pod("db-0"), lab.pod("db-1")]
    found = lab.resolve(ASKER, "db")
    answered(lab, found, [pod.ips[0] for pod in pods], "a headless Service's name is the addresses of its pods")
    for address in sorted(found.addresses):
        flow = lab.host(ASKER).send_tcp(address, 8080, name=f"to {address}, as DNS said")
        owner = next((pod for pod in pods if pod.ips[0] == address), pods[0])
        flow.expect_endpoint(owner, port=8080, name=f"{address} is {owner.pod.meta.name}, and nobody rewrites it")
        flow.expect_no_nat(name=f"no NAT on the way to {address}")
    for pod in pods:
        name = f"{pod.pod.meta.name}.db"
        answered(lab, lab.resolve(ASKER, name), [pod.ips[0]], f"hostname and subdomain: `{name}` is that pod")
    answered(lab, lab.resolve(ASKER, "half"), ["10.1.1.201"], "an endpoint that is not ready has no name")


def other_types(lab):
    """SRV, PTR, and the version of the scheme."""
    udp = server(lab).at_cluster_ip()
    db = f"db.default.svc.{ZONE}"
    first = lab.pod("db-0").ips[0]
    backwards = f"{'.'.join(reversed(first.split('.')))}.in-addr.arpa."
    for kind, name, expected, title in (
        ("SRV", f"_sql._tcp.{db}", [f"0 50 8080 db-0.{db}", f"0 50 8080 db-1.{db}"], "SRV: port and host of each pod"),
        ("SRV", f"_http._tcp.web.default.svc.{ZONE}", [f"0 50 80 web.default.svc.{ZONE}"], "SRV of a Service"),
        ("PTR", backwards, [f"db-0.{db}"], "PTR: an address leads back to the pod's name"),
        ("A", f"{first.replace('.', '-')}.default.pod.{ZONE}", [first], "a pod has a name by its address"),
        ("TXT", f"dns-version.{ZONE}", ["1.1.0"], "TXT: the version of the naming scheme"),
    ):
        answer = lab.ask_dns(ASKER, udp, name, kind)
        said = sorted(answer.data(kind)) if answer else []
        lab.check(title, said == expected, ", ".join(expected), answer.words if answer else "no answer", [name])


def not_there(lab):
    """What does not exist, and what exists without an address of that kind."""
    found = lab.resolve(ASKER, "nobody")
    answered(lab, found, [], "a name that nobody has: every search domain is tried, and none knows it")
    udp = server(lab).at_cluster_ip()
    codes = {}
    for kind, name in (("A", f"nobody.default.svc.{ZONE}"), ("AAAA", f"web.default.svc.{ZONE}")):
        answer = lab.ask_dns(ASKER, udp, name, kind)
        codes[kind] = answer.words if answer else "no answer"
    lab.check(
        "no such name (NXDOMAIN) is not the same as no such address (no data)",
        codes == {"A": "NXDOMAIN", "AAAA": "no data"},
        "NXDOMAIN for A of a name that is not there, no data for AAAA of one that has IPv4 alone",
        ", ".join(f"{kind}: {words}" for kind, words in codes.items()),
    )


def too_long(lab):
    """More addresses than a datagram of 512 bytes holds."""
    addresses = [f"10.1.2.{100 + number}" for number in range(MANY)]
    listed = "".join(f"- {{addresses: [{address}]}}\n" for address in addresses)
    lab.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: crowd}\nspec: {clusterIP: None, ports: [{port: 80}]}\n---\n"
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nports: [{port: 80}]\n"
        "metadata: {name: crowd-1, labels: {kubernetes.io/service-name: crowd}}\nendpoints:\n" + listed
    )
    found = lab.resolve(ASKER, "crowd", tell=True)
    lab.check(
        "an answer that no datagram holds is truncated, and asked for again by TCP",
        [(one.protocol, bool(one.answer and one.answer.truncated)) for one in found.asked]
        == [("udp", True), ("tcp", False)],
        "udp: truncated; then tcp: the whole answer",
        "; ".join(f"{one.protocol}: {one.answer.words[:60] if one.answer else 'no answer'}" for one in found.asked),
        [f"frame {one.frame}" for one in found.asked],
    )
    answered(lab, found, addresses, f"and all {MANY} addresses come")
    if len(found.flows) > 1:
        found.flows[1].expect_dnat(
            on="node1", to=lab.pod("kube-dns", "kube-system"), port=53, name="TCP takes the same way to the name server"
        )


def a_change(lab):
    """A pod goes, and its name goes with it; nobody's question is lost meanwhile."""
    gone, left = lab.pod("db-0").ips[0], lab.pod("db-1").ips[0]
    lab.delete_pod("db-0")
    found = lab.resolve(ASKER, "db")
    answered(lab, found, [left], f"db-0 is deleted: `db` is db-1 alone, and no longer {gone}")
    answered(lab, lab.resolve(ASKER, "db-0.db"), [], "and `db-0.db` is nobody any more")
    from hoplab.probe.dns_messages import asked_by

    every = asked_by(lab.observer.evidence().frames, ASKER)
    lost = [one.words for one in every if one.answer is None]
    lab.check(
        "every question of the run was answered",
        bool(every) and not lost,
        f"{len(every)} questions, {len(every)} answers",
        f"{len(every) - len(lost)} answers" + (f"; none to {'; '.join(lost[:3])}" if lost else ""),
    )
