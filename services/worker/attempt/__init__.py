"""One attempt at one task, from the claim to the end."""
