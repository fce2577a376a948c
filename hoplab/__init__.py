"""hoplab: a laboratory for Kubernetes networking on one Linux machine.

The folders are the architecture: `net` and `watch` touch the kernel, `hops`,
`dataplane` and `kube` decide in pure functions, `cluster`, `probe`, `report` and
`scenario` join them, `cli` is the door.  docs/architecture.md tells the rest.
"""

__version__ = "0.1.0"
