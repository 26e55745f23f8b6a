"""The queue of messages, and the tasks that are parked outside of it."""
