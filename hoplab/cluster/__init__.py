"""Controllers: objects become pods, addresses, endpoints, rules and a balancer, by one `converge`.

`cluster` holds the store and has each part work in turn until nothing changes; `following` has the same done whenever
the store changes.  What is decided is decided in `hoplab.control`, `kube`, `dataplane`, `dns` and `ingress`; here it is
done: `controllers` write objects, `kubelet` and `podworker` run pods through a `node`, `proxy` loads its rules, and
`balancing` keeps the balancer.
"""
