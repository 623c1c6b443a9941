"""The process that systemd starts: it starts the others and replaces what dies."""
