"""The userspace datapath: a process of its own between a TUN device and ESP sockets. See README.md."""
