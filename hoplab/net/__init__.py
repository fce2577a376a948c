"""The edge to the kernel: sandbox, namespaces, Mininet nodes, netlink, CNI plugins, processes."""
