"""What an nginx ingress controller decides, as plain functions: Ingress objects in, nginx.conf out.

`rules` makes a plan of hosts and locations from the objects, `settings` reads annotations and ConfigMap, `nginx` and
`blocks` write the plan as the configuration of a stock nginx.  Followed is ingress-nginx (kubernetes/ingress-nginx);
docs/ingress.md lists what of it there is.
"""
