"""What readers get: many readers of many logs, on one pub/sub connection."""
