"""Protocols that measure; the demo is the smallest of them."""
