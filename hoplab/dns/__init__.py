"""Cluster DNS, decided: which names a cluster has, as zones, and what a pod's resolver is told.

`records` follows the specification, `zone` writes master files, `server` the
configuration of the program that serves them, `resolv` what the kubelet writes
into a pod.
"""
