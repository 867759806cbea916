"""The command line: a client of the daemon's control socket."""
