"""The edge to the kernel: sandbox, namespaces, Mininet nodes, netlink, CNI plugins, processes.

`sandbox` enters the lab's own namespaces before anything else happens; there a `zygote` makes all other processes,
because a fork of a small process is cheap; `machines` are Mininet's nodes on top of that, `netlink` and `cni` give them
and the pods their network, and `podserver` is what answers in a pod.  Nothing here knows an object of Kubernetes.
"""
