"""Random small rulesets in iptables' and nft's language, for the evaluator to be held against the kernel.

Addresses and ports are few, so that rules meet packets often.  Chains only lead to later chains (no loops), each table
has the matches and targets that belong at its hooks, and what the text says is always something a kernel takes.
"""

from hypothesis import strategies as st

VIP = "10.96.0.1"
SOURCES = ("192.168.0.9", "10.180.0.5", "192.168.0.2")
DESTINATIONS = (VIP, "10.180.0.1", "10.180.0.2", "192.168.0.2", "10.180.0.254", "192.168.0.8")
PORTS = (5001, 5002, 5003)
TARGETS = ("10.180.0.1:5003", "10.180.0.2:5001", "192.168.0.2:5002", "192.168.0.8:5001", "10.180.0.1")
SAME_HOST = {"10.180.0.5": ("10.180.0.1", "10.180.0.2"), "192.168.0.9": ("192.168.0.8",)}
"""Addresses that the sender's own namespace has: such packets would never leave it."""
PACKETS = st.tuples(st.sampled_from(SOURCES), st.sampled_from(DESTINATIONS), st.sampled_from(PORTS)).filter(
    lambda packet: packet[1] not in SAME_HOST.get(packet[0], ())
)
MARKS = ("0x1", "0x4000", "0x4001")

IN_HOOKS = ("PREROUTING", "INPUT", "FORWARD")
OUT_HOOKS = ("FORWARD", "OUTPUT", "POSTROUTING")


def negated(text: str) -> st.SearchStrategy[str]:
    return st.sampled_from([text, text, f"! {text}"])


def iptables_match(hook: str) -> st.SearchStrategy[str]:
    """One match that is allowed below this hook ('' for a user chain that several hooks reach)."""
    networks = ("10.180.0.0/24", "192.168.0.0/24", "10.180.0.5/32", "192.168.0.9/32", "192.168.0.0/255.255.0.0")
    choices = [
        st.just(""),
        st.sampled_from(networks).flatmap(lambda each: negated(f"-s {each}")),
        st.sampled_from((*DESTINATIONS, "10.180.0.0/24", "10.96.0.0/16")).flatmap(lambda each: negated(f"-d {each}")),
        st.sampled_from(PORTS).map(lambda port: f"-p udp -m udp --dport {port}"),
        st.sampled_from(("-p udp ! --dport 5001:5002", "-p udp -m udp --sport 20000:40000", "-p tcp --dport 5001")),
        st.sampled_from(("-p udp -m multiport --dports 5001,5003", "-p udp -m multiport ! --dports 5002:5003")),
        st.sampled_from(("-m addrtype --dst-type LOCAL", "-m addrtype ! --src-type LOCAL")),
        st.sampled_from(MARKS).flatmap(lambda mark: negated(f"--mark {mark}/0x4000").map("-m mark {}".format)),
        st.sampled_from(("NEW", "DNAT", "SNAT", "INVALID,NEW", "ESTABLISHED", "UNTRACKED")).flatmap(
            lambda state: negated(f"--ctstate {state}").map("-m conntrack {}".format)
        ),
        st.sampled_from((f"-m conntrack --ctorigdst {VIP}", "-m conntrack --ctorigdstport 5001")),
        st.sampled_from(("0.5000000000", "0.3333333333", "0.9000000000")).map(
            "-m statistic --mode random --probability {}".format
        ),
        st.just('-m comment --comment "a \\"quoted\\" -j DROP"'),
    ]
    if hook in IN_HOOKS:
        choices.append(st.sampled_from(("eth0", "cni+")).flatmap(lambda name: negated(f"-i {name}")))
    if hook in OUT_HOOKS:
        choices.append(st.sampled_from(("eth+", "cni0", "lo")).flatmap(lambda name: negated(f"-o {name}")))
    return st.one_of(choices)


IPTABLES_TARGETS: dict[str, tuple[str, ...]] = {
    "raw PREROUTING": ("CT --notrack", "RETURN", "ACCEPT"),
    "mangle": ("MARK --set-xmark 0x4000/0x4000", "MARK --set-mark 0x1", "MARK --or-mark 0x1", "MARK --xor-mark 0x4000"),
    "nat PREROUTING": (*(f"DNAT --to-destination {each}" for each in TARGETS), "REDIRECT --to-ports 5003", "RETURN"),
    "nat OUTPUT": (*(f"DNAT --to-destination {each}" for each in TARGETS), "RETURN"),
    "nat POSTROUTING": ("MASQUERADE", "MASQUERADE --random-fully", "SNAT --to-source 192.168.0.7", "RETURN", "ACCEPT"),
    "filter": ("ACCEPT", "DROP", "REJECT --reject-with icmp-port-unreachable", "RETURN", "LOG --log-prefix x"),
}
CHAINS = {
    "raw": ("PREROUTING",),
    "mangle": ("PREROUTING", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


def kind_of(match: str) -> tuple[str, ...]:
    """What may stand only once in a rule: an option of the header, or a module."""
    words = match.removeprefix("! ").split()
    return tuple(words[: 2 if words[:1] == ["-m"] else 1])


@st.composite
def iptables_rule(draw: st.DrawFn, table: str, chain: str, hook: str, later: tuple[str, ...]) -> str:
    matches = draw(st.lists(iptables_match(hook), max_size=2, unique_by=kind_of))
    words = " ".join(each for each in matches if each)
    own = IPTABLES_TARGETS.get(f"{table} {hook}") or IPTABLES_TARGETS.get(table) or ("RETURN",)
    targets = [f"-j {each}" for each in own] + [f"{how} {name}" for name in later for how in ("-j", "-j", "-g")]
    target = draw(st.sampled_from(targets))
    if "-p tcp" in words and target.startswith(("-j DNAT", "-j REDIRECT")):
        target = "-j ACCEPT"
    if "-p udp" not in words and target.startswith(("-j DNAT", "-j REDIRECT")):
        # A port in the target needs a protocol among the matches.
        words += " -p udp"
    return f"-A {chain} {words} {target}"


@st.composite
def iptables_rulesets(draw: st.DrawFn) -> str:
    """A whole text for iptables-restore."""
    lines = []
    for table, hooks in CHAINS.items():
        if not draw(st.booleans()) and table != "nat":
            continue
        rules = []
        lines.append(f"*{table}")
        for hook in hooks:
            policy = "DROP" if table == "filter" and draw(st.integers(0, 3)) == 0 else "ACCEPT"
            own = tuple(f"{hook}-{letter}" for letter in "ab")
            if table == "filter":
                # A refusal is an ICMP error, which must come through to be seen.
                rules.append(f"-A {hook} -p icmp -j ACCEPT")
            lines += [f":{hook} {policy} [0:0]", *(f":{name} - [0:0]" for name in own)]
            for index, chain in enumerate((hook, *own)):
                rules += draw(st.lists(iptables_rule(table, chain, hook, own[index:]), max_size=3))
        lines += [*rules, "COMMIT"]
    return "\n".join(lines) + "\n"


NFT_HOOKS = {
    "prerouting": (("filter", -300), ("filter", -150), ("nat", -100), ("filter", -90)),
    "input": (("filter", 0),),
    "forward": (("filter", 0),),
    "output": (("filter", -150), ("nat", -100), ("filter", 0)),
    "postrouting": (("filter", 0), ("nat", 100), ("filter", 200)),
}


def nft_match(hook: str) -> st.SearchStrategy[str]:
    """One match that is allowed below this hook."""
    addresses = ("10.180.0.0/24", "192.168.0.9", "{ 10.180.0.5, 192.168.0.2 }", "10.180.0.1-10.180.0.9", "@sources")
    choices = [
        st.just(""),
        st.sampled_from(addresses).flatmap(lambda each: st.sampled_from([f"ip saddr {each}", f"ip saddr != {each}"])),
        st.sampled_from((VIP, "192.168.0.2", "{ 10.180.0.0/24, 10.96.0.0/16 }")).flatmap(
            lambda each: st.sampled_from([f"ip daddr {each}", f"ip daddr != {each}"])
        ),
        st.sampled_from(("udp dport 5001", "th dport != 5002", "udp dport { 5001, 5003 }", "udp dport 5001-5002")),
        st.sampled_from(("udp dport > 5001", "meta l4proto udp", "ip protocol != udp", "ip protocol != { 6, 132 }")),
        st.sampled_from(
            (f"ip daddr . udp dport {{ {VIP} . 5001, 10.180.0.0/24 . 5002-5003 }}", "ip daddr . th dport @pairs")
        ),
        st.sampled_from(("fib daddr type local", "fib saddr type != local")),
        st.sampled_from(("meta mark 0x1", "mark and 0x4000 == 0", "meta mark & 0x00004000 != 0", "meta mark != 0x1")),
        st.sampled_from(("ct state new", "ct state established,related", "ct state != new", "ct state invalid")),
        st.sampled_from(("ct status dnat", "ct status & snat == 0", f"ct original ip daddr {VIP}")),
        st.sampled_from(("numgen random mod 3 < 1", "numgen random mod 2 1", "numgen random mod 4 { 0, 3 }")),
    ]
    if hook in ("prerouting", "input", "forward"):
        choices.append(st.sampled_from(('iifname "eth0"', 'iifname != "cni*"', "iif cni0")))
    if hook in ("forward", "output", "postrouting"):
        choices.append(st.sampled_from(('oifname "cni0"', 'oifname { "eth0", "lo" }', "oif != eth0")))
    if hook == "prerouting":
        choices.append(st.sampled_from(("fib daddr . iif type local", "fib saddr . iif oif exists")))
    return st.one_of(choices)


PICK = "numgen random mod 2"
HASH = "jhash ip saddr . ip daddr . th sport . th dport . meta l4proto mod 3 seed 0x5eed"


def nft_statements(kind: str, hook: str) -> tuple[str, ...]:
    """What a rule may do at its end, in a chain of this type at this hook."""
    if kind == "nat" and hook in ("prerouting", "output"):
        return (
            *(f"meta l4proto udp dnat ip to {each}" for each in TARGETS),
            f"meta l4proto udp dnat ip to {PICK} map {{ 0 : 10.180.0.1 . 5003, 1 : 10.180.0.2 . 5001 }}",
            f"meta l4proto udp dnat ip to {HASH} map"
            " { 0 : 10.180.0.1 . 5001, 1 : 192.168.0.8 . 5002, 2 : 10.180.0.2 . 5003 }",
            "dnat ip to ip daddr map { 10.96.0.1 : 10.180.0.2, 192.168.0.2 : 10.180.0.1 }",
            "return",
        )
    if kind == "nat":
        return ("masquerade", "masquerade fully-random", "snat ip to 192.168.0.7", "return", "accept")
    always = ("meta mark set 0x1", "mark set mark or 0x4000", "mark set mark xor 0x4000", "counter", "return", "accept")
    if hook == "prerouting":
        return (*always, f"meta mark set {PICK} map {{ 0 : 0x1, 1 : 0x4000 }}", "drop")
    if hook == "postrouting":
        return (*always, "drop")
    return (*always, "drop", "reject", "reject with icmp type host-unreachable", 'log prefix "x "')


@st.composite
def nft_rule(draw: st.DrawFn, kind: str, hook: str, later: tuple[str, ...]) -> str:
    matches = draw(st.lists(nft_match(hook), max_size=2))
    ends = list(nft_statements(kind, hook))
    for name in later:
        ends += [f"jump {name}", f"goto {name}"]
    if later:
        where = f"goto {later[-1]}"
        ends += [
            f"{PICK} vmap {{ 0 : jump {later[0]}, 1 : {where} }}",
            "ip daddr . meta l4proto . th dport vmap"
            f" {{ {VIP} . udp . 5001 : {where}, 10.180.0.1 . udp . 5002 : return }}",
            f"{HASH} vmap {{ 0 : jump {later[0]}, 1 : continue, 2 : {where} }}",
        ]
    return " ".join(each for each in (*matches, draw(st.sampled_from(ends))) if each)


@st.composite
def nft_rulesets(draw: st.DrawFn) -> str:
    """Two tables for nft -f."""
    lines = []
    for table in ("first", "second")[: draw(st.integers(1, 2))]:
        family = draw(st.sampled_from(["ip", "inet"])) if table == "second" else "ip"
        lines.append(f"table {family} {table} {{")
        lines.append("set sources { type ipv4_addr; elements = { 192.168.0.9, 192.168.0.2 }; }")
        lines.append(
            "set pairs { type ipv4_addr . inet_service; flags interval;"
            " elements = { 10.96.0.1 . 5001-5002, 10.180.0.0/24 . 5003 }; }"
        )
        chains: list[list[str]] = []
        for hook, kinds in NFT_HOOKS.items():
            for number, (kind, priority) in enumerate(kinds):
                if not draw(st.booleans()):
                    continue
                base, own = f"{hook}-{number}", tuple(f"{hook}-{number}-{letter}" for letter in "ab")
                policy = "drop" if kind == "filter" and draw(st.integers(0, 7)) == 0 else "accept"
                # A refusal is an ICMP error, which must come through to be seen.
                head = f"type {kind} hook {hook} priority {priority}; policy {policy}; meta l4proto icmp accept;"
                chains.append([f"chain {base} {{ {head}", *draw(rule_list(kind, hook, own)), "}"])
                chains.append([f"chain {own[0]} {{", *draw(rule_list(kind, hook, own[1:])), "}"])
                chains.append([f"chain {own[1]} {{", *draw(rule_list(kind, hook, ())), "}"])
        lines += [line for chain in chains for line in chain]
        lines.append("}")
    return "\n".join(lines) + "\n"


def rule_list(kind: str, hook: str, later: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(nft_rule(kind, hook, later), max_size=3)
