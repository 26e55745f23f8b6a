"""The worker: queue in, log out. A message goes down these floors:
`app > process > attempt > (queue | registry) > redis_client | settings | logs | signals > plugins`.

Whatever waits for Redis may raise `redis.exceptions.RedisError`: Redis refuses, or does not answer for as long as the
client's retries last. A docstring says so only if there is more to say.
"""
