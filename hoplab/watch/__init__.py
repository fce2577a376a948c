"""The observer: every frame, rule trace and conntrack event of every namespace, by one loop with one clock.

`netlink_messages`, `trace` and `conntrack` understand what the kernel says (pure),
`ring` takes frames, `rule_texts` finds the rule behind a handle, `observer` joins
them into the evidence that `hoplab.hops` tells its stories from.
"""
