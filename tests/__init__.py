"""Real Redis, real processes, real sockets."""
