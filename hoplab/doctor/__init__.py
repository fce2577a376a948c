"""What this machine has and lacks for a lab: tried, never guessed from version numbers.

`topics` says of each thing why it matters and what to do without it (pure), `host`
tries what needs no namespaces, `inside` builds a network of two machines in a
throw-away sandbox and uses it, `examine` runs both and judges.
"""
