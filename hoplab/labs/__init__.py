"""Labs that stay: their life and state folder, the control socket, and what is asked of a running one.

`keeper` is the process that outlives the command, `inside` the lab's process 1 with the cluster, and `state` the folder
by which others find them.  Commands reach a lab through `asking`: a request of `protocol` goes over a Unix socket
(`channel`), `control` takes it, and sockets and terminals come back as descriptors.  docs/labs.md tells it to users.
"""
