"""Controllers: objects become pods, addresses, endpoints, rules and a balancer, by one `converge`."""
