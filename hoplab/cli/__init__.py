"""The door: commands, exit codes, what is printed where."""
