"""hoplab: a laboratory for Kubernetes networking on one Linux machine.

The folders are the architecture: `net` and `watch` touch the kernel; `kube`, `control`,
`dataplane`, `dns`, `ingress`, `hops`, `reasons` and `model` decide in pure functions;
`cluster`, `probe`, `report`, `scenario` and `checks` join them; `labs` and `api` keep a lab
running; `cli` is the door.  docs/architecture.md tells the rest.
"""

__version__ = "0.1.0"
