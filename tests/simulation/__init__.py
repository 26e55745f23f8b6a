"""The product's classes on a real Redis, stepped command by command, by a clock that moves only when it is told to."""
