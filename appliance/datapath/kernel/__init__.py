"""The datapath that is the Linux kernel's own: XFRM over netlink."""
