"""A load of plain HTTP requests, as a program: `python loadgen.py ADDRESS PORT PATH WORKERS EVERY_S TIMEOUT_S`.

Each worker makes one connection a request, as fast as one in EVERY_S seconds, until the standard
input ends; then one JSON list of all requests goes to the standard output.  It runs in the client's
network namespace beside the lab's own process, so that the lab's work delays no request.
Standard library only, and little of it: it has to start at once.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
import time

POD = b"x-hoplab-pod:"


def main() -> int:
    """Run until the standard input ends."""
    address, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    workers, every_s, timeout_s = int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6])
    ended = threading.Event()
    done: list[list[object]] = []

    def work() -> None:
        due = time.monotonic()
        while not ended.is_set():
            done.append(request(address, port, path, timeout_s))
            due = max(due + every_s, time.monotonic())
            ended.wait(due - time.monotonic())

    threads = [threading.Thread(target=work) for _number in range(workers)]
    for thread in threads:
        thread.start()
    while os.read(0, 4096):
        continue
    ended.set()
    for thread in threads:
        thread.join()
    json.dump(sorted(done, key=lambda one: str(one[0])), sys.stdout)
    return 0


def request(address: str, port: int, path: str, timeout_s: float) -> list[object]:
    """One request: when it began (seconds since 1970), how long it took, how it ended, who answered, its own port."""
    started, began = time.time(), time.monotonic()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    pod, source = "", 0
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect((address, port))
            source = connection.getsockname()[1]
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            said = bytearray()
            while piece := connection.recv(65536):
                said += piece
            outcome, pod = _read(bytes(said))
        except TimeoutError:
            outcome = "timed out"
        except OSError as error:
            outcome = errno.errorcode.get(error.errno or 0, str(error))
        if not source:
            source = connection.getsockname()[1]
    return [started, time.monotonic() - began, outcome, pod, source]


def _read(said: bytes) -> tuple[str, str]:
    head = said.partition(b"\r\n\r\n")[0].split(b"\r\n")
    words = head[0].split()
    if len(words) < 2:
        return "closed without an answer", ""
    pod = next((line[len(POD) :].strip().decode() for line in head[1:] if line.lower().startswith(POD)), "")
    return ("answered" if words[1] == b"200" else f"HTTP {words[1].decode('latin-1')}"), pod


if __name__ == "__main__":
    raise SystemExit(main())
