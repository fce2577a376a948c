"""The observer: every frame, rule trace and conntrack event of every namespace, by one loop with one clock.

`netlink_messages`, `trace` and `conntrack` understand what the kernel says (pure),
`ring` takes frames, `trace_rules` has the kernel trace, `watched` is what is open for one
namespace, `rule_texts` finds the rule behind a handle, and `observer` joins them into the
evidence that `hoplab.hops` tells its stories from.  `asking`, `counters`, `drops` and
`connections` are what the kernel is asked for besides.
"""
