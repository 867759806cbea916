"""What the kernel and the network devices can do for IPsec, found out beforehand. See README.md."""
