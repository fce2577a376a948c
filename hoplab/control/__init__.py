"""What Kubernetes' controllers decide, as plain functions: objects in, the changes that they would make out.

Each workload has a file named after it; `plan` is what they hand over and `pods` how they see pods.  The rest is the
kubelet's: `restarts`, `probes` and `podstatus`.  Nothing here has a clock or a store: the time is an argument, and
`hoplab.cluster.controllers` writes what was decided.
"""
