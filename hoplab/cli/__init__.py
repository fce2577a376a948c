"""The door: commands, exit codes, what is printed where.

A command is a file, or a few that belong together; `main` imports the one that is called and no other, so that
`lab.py --help` costs nothing.  `endings` turns every exception and signal into an exit code and at most one message.
"""
