"""A small network for rules to be tried in, built with iproute2 in fresh namespaces: client - router - node1, node2.

Runs inside `unshare --net --mount`: this process' namespace is the router, which gets the rules; client, node1 and
node2 are its children.  Each node answers on port 30080 of its address and on port 80 of 198.51.100.10 with its own
name and the sender it saw.  Commands come as JSON lines on standard input, answers go out the same way; the namespaces
end with the process.  Tests speak to it through nft_bench.Bench.
"""

import json
import os
import select
import socket
import subprocess
import sys

VIP, VIP_PORT, NODE_PORT = "198.51.100.10", 80, 30080
NODES = {"node1": "10.240.0.11", "node2": "10.240.0.12"}


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout


def build() -> None:
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for setting in ("ip_forward=1", "conf.all.rp_filter=0", "conf.default.rp_filter=0"):
        name, value = setting.split("=")
        with open(f"/proc/sys/net/ipv4/{name.replace('.', '/')}", "w") as file:
            file.write(value)
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "inside", "type", "bridge")
    run("ip", "address", "add", "10.240.0.2/24", "dev", "inside")
    run("ip", "link", "set", "inside", "up")
    run("ip", "link", "add", "upstream", "type", "bridge")
    run("ip", "link", "set", "upstream", "up")
    run("ip", "route", "add", "default", "dev", "upstream")
    attach("client", "203.0.113.10/24", "203.0.113.2", bridge=False)
    run("ip", "address", "add", "203.0.113.2/24", "dev", "client")
    for name, address in NODES.items():
        attach(name, f"{address}/24", "10.240.0.2", bridge=True)
        run("ip", "-n", name, "address", "add", f"{VIP}/32", "dev", "lo")


def attach(name: str, address: str, gateway: str, *, bridge: bool) -> None:
    run("ip", "netns", "add", name)
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    if bridge:
        run("ip", "link", "set", name, "master", "inside")
    run("ip", "link", "set", name, "up")
    run("ip", "-n", name, "link", "set", "lo", "up")
    run("ip", "-n", name, "address", "add", address, "dev", "eth0")
    run("ip", "-n", name, "link", "set", "eth0", "up")
    run("ip", "-n", name, "route", "add", "default", "via", gateway)


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
    for address in ((NODES[name], NODE_PORT), (VIP, VIP_PORT)):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(address)
        tcp = socket.create_server(address)
        sockets += [udp, tcp]
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


def ask(protocol: str, ports: list[int], seconds: float) -> None:
    """One flow for each source port, one after the other; null when nothing came back, 'refused' for RST or ICMP."""
    print(json.dumps([ask_once(protocol, port, seconds) for port in ports]))


def ask_once(protocol: str, port: int, seconds: float) -> str | None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as flow:
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        flow.settimeout(seconds)
        flow.bind(("203.0.113.10", port))
        try:
            flow.connect((VIP, VIP_PORT))
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
        ask(sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4]))
    else:
        os.environ["LC_ALL"] = "C"
        main()
