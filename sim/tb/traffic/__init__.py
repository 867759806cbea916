"""What several benches send: packets, and how to tell what their headers are."""
