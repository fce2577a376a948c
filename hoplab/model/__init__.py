"""A pure evaluator of rule text: it walks a packet through iptables and nftables rules and foretells its fate.

Everything here is computed from text and a description of the namespace, so a result is a prediction and never a
verdict; `compare` holds predictions against what was really seen.  Each possible outcome carries its exact probability
as a fraction, and text that the evaluator doesn't know is refused with its line, never guessed at.
"""
