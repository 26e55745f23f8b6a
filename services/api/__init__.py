"""The API: HTTP in, SSE out. A request goes down these floors, and up again:
`app > routes > streams > tasks > catalog > http > redis_client | settings | logs > plugins`.
"""
