"""Check files: what a cluster's network must do, written as YAML, and proved by packets."""
