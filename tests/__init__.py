"""The tests: a folder for each room, and system/, interop/, bench/ for the whole. lab/ is the network they run on."""
