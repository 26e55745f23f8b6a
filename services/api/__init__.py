"""The API: HTTP in, SSE out. A request goes down these floors, and up again:
`app > routes > streams > tasks > catalog > http > redis_client | settings | logs > plugins`.

Whatever waits for Redis may raise `redis.exceptions.RedisError`: Redis does not answer, or refuses. A docstring says so
only if there is more to say. Routes do not catch these errors; `http/problems.py` answers them.
"""
