"""What Kubernetes' controllers decide, as plain functions: objects in, the changes that they would make out."""
