"""Probes: packets that scapy crafts and connections that the kernel makes, sent from a namespace of the lab.

The exchanges themselves (`tcp`, `datagram`) are state machines without sockets or
clocks; `edges` sends what they say and feeds them what the observer saw; `prober`
is what scenarios call.
"""
