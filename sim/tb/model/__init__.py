"""What the golden model in appliance/esp has no steps for: the insides of ciphers, by their standards."""
