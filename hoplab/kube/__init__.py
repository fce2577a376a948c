"""Kubernetes objects: read from YAML, validated as the API server does, defaulted, as typed frozen values.

`load` is the way from a manifest to objects, `validate` and `schema` say what is wrong with one, `admit` what is added
before it is stored, `store` keeps them with versions and watches, and `convert` makes of documents the values of
`types`, which all others decide on.  No part of it knows a node, a packet or a process.
"""
