"""The worker: queue in, log out. A message goes down these floors:
`app > process > attempt > (queue | registry) > redis_client | settings | logs | signals > plugins`.
"""
