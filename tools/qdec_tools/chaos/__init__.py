"""Faults injected into a live service, and whether anything was lost, repeated or wrong."""
