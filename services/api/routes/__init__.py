"""What can be asked: one file for each resource, without a command to Redis of its own."""
