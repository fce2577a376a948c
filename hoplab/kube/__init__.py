"""Kubernetes objects: read from YAML, validated as the API server does, defaulted, as typed frozen values."""
