"""How the shipped networks were trained, and how to train others: ``qdec train``."""
