"""The daemon: wires configuration, IKE, datapaths and the control socket. See README.md."""
