"""How a worker reaches Redis: connections, shared round trips, retries."""
