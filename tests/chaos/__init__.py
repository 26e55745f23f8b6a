"""What takes minutes, because what it waits for takes as long in life."""
