"""Esplanade: an IPsec gateway appliance."""
