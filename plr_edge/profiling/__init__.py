"""Measures what each part costs on this machine, in milliseconds, bytes and joules."""
