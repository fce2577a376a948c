"""A small network for rules to be tried in, built with iproute2 in fresh namespaces: client - router - node1, node2.

Runs inside `unshare --net --mount`: this process' namespace is the router, which gets the rules; client, node1 and
node2 are its children.  Each node answers on port 30080 of its addresses and on port 80 of the VIPs with its own
name and the sender it saw.  Commands come as JSON lines on standard input, answers go out the same way; the namespaces
end with the process.  Tests speak to it through nft_bench.Bench.
"""

import json
import os
import select
import socket
import subprocess
import sys
import time

VIPS = {"IPv4": "198.51.100.10", "IPv6": "2001:db8:10::10"}
VIP_PORT, NODE_PORT = 80, 30080
CLIENT = {"IPv4": "203.0.113.10", "IPv6": "2001:db8:c::10"}
GATEWAY = {"IPv4": "203.0.113.2", "IPv6": "2001:db8:c::2"}
INSIDE = {"IPv4": "10.240.0.2", "IPv6": "fd00:240::2"}
NODES = {
    "node1": {"IPv4": "10.240.0.11", "IPv6": "fd00:240::11"},
    "node2": {"IPv4": "10.240.0.12", "IPv6": "fd00:240::12"},
}
PREFIX = {"IPv4": 24, "IPv6": 64}
# Without duplicate address detection an address can be used at once.
NO_DETECTION = ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
SETTINGS = (
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    "net.ipv6.conf.all.forwarding=1",
    # The router's own bridge shall be a plain switch: packets meet the rules when they are routed.
    "net.bridge.bridge-nf-call-iptables=0",
    "net.bridge.bridge-nf-call-ip6tables=0",
    *NO_DETECTION,
)


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout


def build() -> None:
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("sysctl", "-eqw", *SETTINGS)
    run("ip", "link", "set", "lo", "up")
    for bridge in ("inside", "upstream"):
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "link", "set", bridge, "up")
    assign("inside", INSIDE)
    run("ip", "route", "add", "default", "dev", "upstream")
    run("ip", "-6", "route", "add", "default", "dev", "upstream")
    attach("client", CLIENT, GATEWAY)
    assign("client", GATEWAY)
    for name, addresses in NODES.items():
        attach(name, addresses, INSIDE, bridge="inside")
        for vip in VIPS.values():
            run("ip", "-n", name, "address", "add", vip, "dev", "lo")
    wait_for_link_locals([(), ("client",), *((name,) for name in NODES)])


def wait_for_link_locals(namespaces: list[tuple[str, ...]], seconds: float = 10.0) -> None:
    """Until every link that is up has its fe80:: address, and neighbours may ask for each of its addresses.

    The kernel gives it when it takes note of the carrier, up to a second later (net/core/link_watch.c).  Until then a
    forwarded IPv6 packet waits, since no neighbour can be asked for: for a second at each machine on the way.
    """
    deadline = time.monotonic() + seconds
    missing = namespaces
    while missing and time.monotonic() < deadline:
        missing = [each for each in missing if not has_link_locals(*each)]
    if missing:
        raise RuntimeError(f"no link-local address after {seconds:g} s in {missing}")


def has_link_locals(*namespace: str) -> bool:
    inside = ("-n", *namespace) if namespace else ()
    links = json.loads(run("ip", "-json", *inside, "address", "show", "up"))
    addresses = [link["addr_info"] for link in links if "LOOPBACK" not in link["flags"]]
    return all(
        any(each["scope"] == "link" for each in one) and not any(each.get("tentative") for each in one)
        for one in addresses
    )


def assign(device: str, addresses: dict[str, str], *ip: str) -> None:
    for family, address in addresses.items():
        run("ip", *ip, "address", "add", f"{address}/{PREFIX[family]}", "dev", device)


def attach(name: str, addresses: dict[str, str], gateways: dict[str, str], bridge: str = "") -> None:
    inside = ("-n", name)
    run("ip", "netns", "add", name)
    run("ip", "netns", "exec", name, "sysctl", "-qw", *NO_DETECTION)
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    if bridge:
        run("ip", "link", "set", name, "master", bridge)
    run("ip", "link", "set", name, "up")
    run("ip", *inside, "link", "set", "lo", "up")
    run("ip", *inside, "link", "set", "eth0", "up")
    assign("eth0", addresses, *inside)
    for gateway in gateways.values():
        run("ip", *inside, "route", "add", "default", "via", gateway)


def serve(name: str) -> subprocess.Popen[str]:
    """The node's server, which says READY when both sockets are bound."""
    child = subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-S", __file__, "serve", name], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "READY\n"
    return child


def answer(name: str) -> None:
    sockets: list[socket.socket] = []
    places = [(address, NODE_PORT) for address in NODES[name].values()] + [(vip, VIP_PORT) for vip in VIPS.values()]
    for place in places:
        family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.bind(place)
        sockets += [udp, socket.create_server(place, family=family)]
    print("READY", flush=True)
    while True:
        for ready in select.select(sockets, [], [])[0]:
            if ready.type == socket.SOCK_DGRAM:
                _, sender = ready.recvfrom(100)
                ready.sendto(f"{name} {sender[0]}".encode(), sender)
            else:
                connection, sender = ready.accept()
                connection.sendall(f"{name} {sender[0]}".encode())
                connection.close()


def ask(family: str, protocol: str, ports: list[int], seconds: float) -> None:
    """One flow for each source port, one after the other; null when nothing came back, 'refused' for RST or ICMP."""
    print(json.dumps([ask_once(family, protocol, port, seconds) for port in ports]))


def ask_once(family: str, protocol: str, port: int, seconds: float) -> str | None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if family == "IPv6" else socket.AF_INET, kind) as flow:
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        flow.settimeout(seconds)
        flow.bind((CLIENT[family], port))
        try:
            flow.connect((VIPS[family], VIP_PORT))
            if protocol == "udp":
                flow.send(b"who")
            return flow.recv(100).decode()
        except ConnectionError:
            return "refused"
        except TimeoutError:
            return None


def main() -> None:
    build()
    servers = [serve(name) for name in NODES]
    background: list[subprocess.Popen[str]] = []
    try:
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "run":
                print(json.dumps(run(*command["argv"], stdin=command.get("stdin", ""))), flush=True)
            elif command["do"] == "start":
                background.append(subprocess.Popen(command["argv"], stdout=subprocess.PIPE, text=True))
                print(json.dumps("started"), flush=True)
            elif command["do"] == "collect":
                print(json.dumps(background.pop().communicate()[0]), flush=True)
    finally:
        for child in [*servers, *background]:
            child.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        answer(sys.argv[2])
    elif sys.argv[1:2] == ["ask"]:
        ask(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]), float(sys.argv[5]))
    else:
        os.environ["LC_ALL"] = "C"
        main()
