"""Rules as text, from Kubernetes objects alone: kube-proxy's iptables and nftables modes, the balancer's nftables.

Pure functions of (Services, EndpointSlices, node, settings).  `view` is kube-proxy's view of the objects, which both
modes write from; `iptables` and `nftables` build a ruleset as a value, `iptables_text` and `nft_text` write it, whole
or as the change from the one before; `rules` is what `lab.py rules` prints.  docs/dataplane.md explains every chain.
"""
