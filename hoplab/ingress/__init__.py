"""What an nginx ingress controller decides, as plain functions: Ingress objects in, nginx.conf out."""
