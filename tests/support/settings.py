"""Settings for the processes of a test, and numbers for parts of them that run in the test's own loop."""

from typing import Final

# Signs of life come often, so a loss is soon noticed. Leases are as long as by default: they outlast an outage.
ALERT: Final = {"TAILRACE_RENEW_S": "0.4", "TAILRACE_HEARTBEAT_S": "0.5"}

# A lease that is over soon in a test, and long enough for a busy machine to renew it.
QUICK: Final = ALERT | {"TAILRACE_LEASE_S": "2", "TAILRACE_SCAN_S": "0.2"}

# A lease that is over several times while a task runs for a few seconds.
BRIEF: Final = QUICK | {"TAILRACE_LEASE_S": "1", "TAILRACE_RENEW_S": "0.3"}

# Longer than any test, in seconds: nothing heals by waiting, what heals heals because the fault was noticed.
NEVER_S: Final = 3_600

# An API whose streams say nothing by themselves, and look at no log by themselves.
NO_HEARTBEAT: Final = {"TAILRACE_HEARTBEAT_S": str(NEVER_S)}

# A worker that renews nothing within a test, and whose tasks do not count as lost. It learns of changes by messages.
NO_RENEWAL: Final = {"TAILRACE_RENEW_S": str(NEVER_S), "TAILRACE_LEASE_S": str(2 * NEVER_S)}
