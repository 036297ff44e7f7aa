"""Bundles: the exported directory that a board needs. Opened, checked, written and signed here."""
