"""How a worker reaches Redis: connections, batches of commands, retries."""
