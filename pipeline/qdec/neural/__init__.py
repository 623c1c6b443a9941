"""Networks that look at a window before it is matched: what they see, say, and run on."""
