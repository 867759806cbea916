"""One file for each exchange of RFC 7296 §1."""
