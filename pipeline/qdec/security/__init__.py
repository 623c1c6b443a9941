"""Who may talk to the service over TCP: CURVE keys, what each may do, and the handshake's judge."""
