"""Frames, rule traces and conntrack entries to flows, hops and verdicts: plain functions on plain data.

`evidence` is what was seen and `story` what it tells.  `packet` reads frames, `join`
finds the frames of one packet in all namespaces, `flow` finds the packets of one
exchange, and `verdict` holds the story against what was expected.
"""
