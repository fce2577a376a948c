"""The Kubernetes API of one lab: what kubectl and every other client of a cluster talks to.

A request becomes an answer in plain functions: `service` finds verb and resource, `registry` and `reading` do the
work on the cluster's store, `prepare` and `hoplab.kube` decide what may be stored, and `resources` is the table of all
that is served.  `http`, `watching` and `podstreams` are the front with sockets; `server` runs it in a thread.
docs/kubectl.md says what is there and what is not.
"""
