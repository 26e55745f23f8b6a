"""What needs no Redis."""
