"""What travels between client and lane: messages, commit records, cursors, endpoints."""
