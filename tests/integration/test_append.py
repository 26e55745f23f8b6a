"""The write rule, against a model of it in Python, over random histories of three writers.

The model is written from the design's table, not from the script.
"""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis import Redis

from plugins import append, entries, keys

pytestmark = pytest.mark.redis

FENCED, CLOSED, TRUNCATED = -1, -2, -3

WRITERS = (1, 2, 3)  # their attempts


class Model:
    """A log as the design describes it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.rung: list[bytes] = []

    def append(self, expected: int, attempt: int, lines: list[bytes]) -> int:
        """The answer that the table asks for."""
        length = len(self.lines)
        if length < expected:
            return TRUNCATED
        if length > expected and self.lines[expected : expected + len(lines)] == lines:
            return expected + len(lines)
        if self.lines and entries.decode(self.lines[-1]).ends:
            return CLOSED
        if length > expected or (self.lines and entries.decode(self.lines[-1]).attempt > attempt):
            return FENCED
        self.lines += lines
        self.rung += lines
        return len(self.lines)


class Writer:
    """One attempt, with the length that it expects of the log."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.expected = 0


Call = tuple[int, int, tuple[bytes, ...]]


class Histories(RuleBasedStateMachine):
    """Three writers append, retry, end, start late and come back from the dead; the log is truncated under them."""

    redis: "Redis"
    number = 0

    calls: "Bundle[Call]" = Bundle("calls")

    @initialize()
    def begin(self) -> None:
        """A fresh log per history."""
        Histories.number += 1
        self.task_id = f"{Histories.number:032x}"
        self.script = self.redis.register_script(append.SCRIPT)
        self.redis.hset(keys.metadata(self.task_id), "status", "running")
        self.redis.expire(keys.metadata(self.task_id), keys.TASK_TTL_S)
        self.model = Model()
        self.writers = {attempt: Writer(attempt) for attempt in WRITERS}
        self.clock = 0
        self.pubsub = self.redis.pubsub()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        self.pubsub.subscribe(keys.channel(self.task_id))
        assert self.pubsub.get_message(timeout=10)["type"] == "subscribe"

    def call(self, call: Call) -> int:
        """Ask the script and the model; both must say the same."""
        expected, attempt, lines = call
        answer = int(self.script(**append.arguments(self.task_id, expected, attempt, *lines)))
        assert answer == self.model.append(expected, attempt, list(lines))
        return answer

    def line(self, event: str, attempt: int, seq: int, data: object) -> bytes:
        """An entry of its own time."""
        self.clock += 1
        return entries.encode(event, attempt, seq, self.clock, data)

    @rule(
        target=calls,
        attempt=st.sampled_from(WRITERS),
        count=st.integers(1, 3),
        ends=st.sampled_from([False, False, False, True]),
    )
    def write(self, attempt: int, count: int, ends: bool) -> "Call":
        """A writer appends what it believes comes next; sometimes its end."""
        writer = self.writers[attempt]
        lines = [self.line("chunk", attempt, writer.expected + index, index) for index in range(count)]
        if ends:
            lines.append(self.line("done", attempt, writer.expected + count, {"chunks": 0}))
        call = (writer.expected, attempt, tuple(lines))
        answer = self.call(call)
        if answer > 0:
            writer.expected = answer
        return call

    @rule(target=calls, attempt=st.sampled_from(WRITERS))
    def take_over(self, attempt: int) -> "Call":
        """A writer looks at the log and begins its attempt there."""
        writer = self.writers[attempt]
        writer.expected = len(self.model.lines)
        call = (writer.expected, attempt, (self.line("attempt", attempt, writer.expected, {"attempt": attempt}),))
        if self.call(call) > 0:
            writer.expected += 1
        return call

    @rule(call=calls)
    def retry(self, call: "Call") -> None:
        """The reply to a call, the last or an early one, was lost: it is made again."""
        self.call(call)

    @rule(target=calls, attempt=st.sampled_from(WRITERS), seq=st.integers(0, 12), text=st.text(max_size=3))
    def zombie(self, attempt: int, seq: int, text: str) -> "Call":
        """A writer that knows nothing writes anywhere."""
        call = (seq, attempt, (entries.encode("chunk", attempt, seq, 0, text),))
        self.call(call)
        return call

    @rule(now=st.sampled_from([False, False, False, True]))
    def cancel(self, now: bool) -> None:
        """The api appends an end, at the end."""
        if now:
            length = len(self.model.lines)
            newest = entries.decode(self.model.lines[-1]).attempt if length else 0
            self.call((length, newest, (self.line("cancelled", newest, length, {"by": "x"}),)))

    @rule(keep=st.integers(0, 10))
    def lose(self, keep: int) -> None:
        """A failover loses the end of the log."""
        if keep % 3 == 0 and keep < len(self.model.lines):
            del self.model.lines[keep:]
            self.redis.ltrim(keys.log(self.task_id), 0, keep - 1) if keep else self.redis.delete(keys.log(self.task_id))

    @invariant()
    def same_log(self) -> None:
        """The log in Redis equals the model's, and has a lifetime."""
        if not hasattr(self, "model"):
            return
        log = keys.log(self.task_id)
        assert self.redis.lrange(log, 0, -1) == self.model.lines
        assert not self.model.lines or 0 < self.redis.ttl(log) <= keys.CHUNK_TTL_S

    def teardown(self) -> None:
        """Every entry was published once, in order, byte for byte; a retry and a refusal published nothing."""
        if not hasattr(self, "model"):
            return
        try:
            heard = [self.pubsub.get_message(timeout=10) for _ in self.model.rung]
            assert [message and message["data"] for message in heard] == self.model.rung
            assert self.pubsub.get_message(timeout=0) is None
        finally:
            self.pubsub.close()
            self.redis.delete(keys.log(self.task_id))


@pytest.fixture
def machine(redis_url: str) -> Iterator[type[Histories]]:
    """The histories, with a Redis."""
    with Redis.from_url(redis_url) as redis:
        Histories.redis = redis
        yield Histories


def test_histories_of_three_writers(machine: type[Histories]) -> None:
    """One writer per seq, nothing after an end, nothing lost by a retry, and no silent restart of a truncated log."""
    run_state_machine_as_test(
        machine, settings=settings(max_examples=150, stateful_step_count=25, deadline=None, print_blob=True)
    )


def line(event: str, attempt: int, seq: int, data: object = None) -> bytes:
    """An entry at a fixed time."""
    return entries.encode(event, attempt, seq, 0, data)


@pytest.fixture
def ask(redis_url: str) -> Iterator["Asking"]:
    """The script on a log of its own."""
    with Redis.from_url(redis_url) as redis:
        yield Asking(redis)
        redis.delete(keys.log(Asking.task_id), keys.metadata(Asking.task_id))


class Asking:
    """The script, called by a sync client."""

    task_id = "f" * 32

    def __init__(self, redis: "Redis") -> None:
        self.redis = redis
        self.script = redis.register_script(append.SCRIPT)
        redis.hset(keys.metadata(self.task_id), "status", "running")

    def __call__(self, expected: int, attempt: int, *lines: bytes) -> int:
        """The script's answer."""
        return int(self.script(**append.arguments(self.task_id, expected, attempt, *lines)))


def test_every_answer(ask: Asking) -> None:
    """The four answers, each in its plainest case."""
    chunk, end = line("chunk", 1, 0), line("done", 1, 1)

    assert ask(1, 1, line("chunk", 1, 1)) == append.Refusal.TRUNCATED
    assert ask(0, 1, chunk) == 1
    assert ask(0, 1, line("chunk", 1, 0, "other bytes")) == append.Refusal.FENCED
    assert ask(1, 1, end) == 2
    assert ask(2, 1, line("chunk", 1, 2)) == append.Refusal.CLOSED
    assert ask(0, 1, chunk) == 1
    assert ask(0, 1, chunk, end) == ask(1, 1, end) == 2


def test_the_same_chunk_of_an_older_attempt_is_not_taken_for_a_retry(ask: Asking) -> None:
    """Two attempts that yield the same at the same place are told apart."""
    assert ask(0, 2, line("chunk", 2, 0, "same")) == 1
    assert ask(0, 1, line("chunk", 1, 0, "same")) == append.Refusal.FENCED
    assert ask(1, 1, line("chunk", 1, 1, "next")) == append.Refusal.FENCED


def test_a_script_that_was_flushed_comes_back(ask: Asking) -> None:
    """SCRIPT FLUSH, a restart or a failover costs a round trip, not an append."""
    assert ask(0, 1, line("chunk", 1, 0)) == 1
    ask.redis.script_flush()
    assert ask(1, 1, line("chunk", 1, 1)) == 2


def test_a_full_group(ask: Asking) -> None:
    """As many entries as a writer may send at once."""
    lines = [line("chunk", 1, seq) for seq in range(append.MAX_ENTRIES)]
    assert ask(0, 1, *lines) == append.MAX_ENTRIES
    assert ask(0, 1, *lines) == append.MAX_ENTRIES


def test_two_attempts_of_many_digits(ask: Asking) -> None:
    """Attempts compare as numbers."""
    assert ask(0, 10, line("chunk", 10, 0)) == 1
    assert ask(1, 9, line("chunk", 9, 1)) == append.Refusal.FENCED
