"""The fields of a task's metadata, the hash at `keys.metadata`: what a task is, which worker runs it, and how it ended.

The scripts name fields as they are; a test holds them to this list. Times are milliseconds since the epoch.
"""

from typing import Any, Final

# The API writes these once, when it creates the task.
FUNCTION: Final = "function"
VERSION: Final = "version"  # of the function, as announced then
INPUT_TTL: Final = "input_ttl"  # seconds for which the input outlives the end
INPUT: Final = "input"  # JSON; only of tasks of an older release: the input has a key of its own (`keys.task_input`)
OWNER: Final = "owner"  # a digest, or `keys.ANONYMOUS`
CREATED_AT: Final = "created_at"
ATTEMPTS: Final = "attempts"  # how many there may be
LIMIT_KEY: Final = "gate"  # only if the function has limits
RESERVATION: Final = "reservation"  # the name of its `keys.idempotency`; only if its client sent an Idempotency-Key

# `queued`, `running`, or the event of the end. Written by each step that changes it.
STATUS: Final = "status"
QUEUED_AT: Final = "queued_at"  # the last time that it became `queued`

# The entry of the queue that has the message of a queued task. Written by the steps that add one; the claim deletes it.
MESSAGE: Final = "message"

# The claim writes these, for each attempt.
ATTEMPT: Final = "attempt"
CLAIM: Final = "claim"  # the delivery that won
WORKER: Final = "worker"
RAN_VERSION: Final = "ran_version"  # of the function, as that worker has it
STARTED_AT: Final = "started_at"
# Before this time, by the server's clock, no other claim takes the task: the lease of the worker that runs it
# (renewals move it), or the back-off between attempts (the release writes it).
LEASE_UNTIL: Final = "lease_until"

# The step that appends the mark of an attempt writes this: the number of entries that are no chunks of this
# attempt's, which are its mark and what it does not keep.
NON_CHUNK_ENTRIES: Final = "uncounted"

# The step that appends the end writes these, whichever service takes it. `lease_until` is 0 then, unless a function
# still cleans up.
END: Final = "end"  # its data, JSON
ENDED_AT: Final = "ended_at"

# Values by field: text, bytes or a number, as a client of Redis takes them.
Fields = dict[Any, Any]


def created(
    function: str,
    version: str,
    owner: str,
    *,
    attempts: int,
    input_ttl_s: int,
    limit_key: str | None = None,
    reservation: str | None = None,
) -> Fields:
    """Return the fields of a new task, without its times, which are the server's."""
    fields: Fields = {
        STATUS: "queued",
        FUNCTION: function,
        VERSION: version,
        OWNER: owner,
        INPUT_TTL: input_ttl_s,
        ATTEMPTS: attempts,
    }
    optional = {LIMIT_KEY: limit_key, RESERVATION: reservation}
    return fields | {field: value for field, value in optional.items() if value is not None}
