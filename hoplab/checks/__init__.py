"""Check files: what a cluster's network must do, written as YAML, and proved by packets.

`parse` reads a file into the values of `spec`, with `fields` as the table of what may stand there; `running` builds
the cluster and sends what it takes; `judge` holds what was seen against what was expected, and `spread` knows
how many probes it takes to be sure.  docs/checks.md is the reference.
"""
