"""Labs that stay: their life and state folder, the control socket, and what is asked of a running one."""
