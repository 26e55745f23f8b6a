"""The queue's message: each service reads the other's messages, and no other bytes count as one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskiq import TaskiqMessage
from taskiq.labels import prepare_label

from plugins import keys
from plugins.message import MAX_ATTEMPT, MAX_PARKED_SINCE, Message, NotAMessageError, decode, encode

TASK_ID = "0123456789abcdef" * 2


def taskiqs(labels: dict[str, Any], **changed: Any) -> bytes:
    """A message as Taskiq itself writes one."""
    fields = {"task_id": "x", "task_name": keys.RUN, "labels": labels, "args": [TASK_ID], "kwargs": {}} | changed
    return TaskiqMessage(**fields).model_dump_json().encode()


@given(
    st.builds(
        Message,
        st.from_regex(keys.TASK_ID, fullmatch=True),
        st.sampled_from(["", "count", "a.b-c_D"]),
        st.integers(0, MAX_ATTEMPT - 1),
        st.integers(0, MAX_PARKED_SINCE - 1),
        st.just("") | st.from_regex(keys.OWNER, fullmatch=True),
    )
)
def test_what_is_written_is_read(message: Message) -> None:
    """By us, and by Taskiq, whose call it is."""
    line = encode(message)
    assert decode(line) == message
    call = TaskiqMessage.model_validate_json(line)
    assert (call.task_name, call.args, call.kwargs) == (keys.RUN, [message.task_id], {})


def test_what_taskiqs_own_sender_writes() -> None:
    """An API of an older release sends by it: its labels are text, with their types beside them."""
    labels = {name: prepare_label(value)[0] for name, value in {"function": "count", "attempt": 3}.items()}
    assert decode(taskiqs(labels, labels_types={"function": 3, "attempt": 2})) == Message(TASK_ID, "count", 3)
    assert decode(taskiqs({})) == Message(TASK_ID)


@pytest.mark.parametrize(
    "labels",
    [
        {"function": "../x", "attempt": -1, "held": 2**60, "owner": "a:b"},
        {"function": None, "attempt": "two", "held": True, "owner": None},
        {"function": ["count"], "attempt": 1.5, "held": "9" * 30, "owner": ["anonymous"]},
        {"timeout": 1, "ack_type": "when_received", "retry_on_error": True},
    ],
    ids=str,
)
def test_labels_that_make_no_sense(labels: dict[str, Any]) -> None:
    """The message counts, and they do not."""
    assert decode(taskiqs(labels)) == Message(TASK_ID)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\x00\xfe",
        b"null",
        b"[]",
        b"[" * 100_000,
        json.dumps({"task_name": keys.RUN}).encode(),
        taskiqs({}, task_name="another"),
        taskiqs({}, args=[]),
        taskiqs({}, args=[TASK_ID, TASK_ID]),
        taskiqs({}, args=["../../etc/passwd"]),
        taskiqs({}, args=[None]),
        taskiqs({}, kwargs={"task_id": TASK_ID}),
    ],
    ids=lambda value: repr(value[:60]),
)
def test_what_is_no_message(value: bytes) -> None:
    """It is refused, with the reason."""
    with pytest.raises(NotAMessageError, match=r"."):
        decode(value)
