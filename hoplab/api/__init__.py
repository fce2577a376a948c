"""The Kubernetes API of one lab: what kubectl and every other client of a cluster talks to."""
