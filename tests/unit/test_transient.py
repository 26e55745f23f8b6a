"""Which errors of Redis are transient. The names of their classes are redis-py's, which plugins/ does not import."""

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from plugins.transient import CLASSES, is_transient


def test_the_classes_exist() -> None:
    """A name that redis-py no longer has would match nothing."""
    assert all(issubclass(getattr(exceptions, name), exceptions.RedisError) for name in CLASSES)


@pytest.mark.parametrize(
    ("reply", "transient"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("READONLY You can't write against a read only replica.", True),
        ("LOADING Redis is loading the dataset in memory", True),
        ("TRYAGAIN Multiple keys request during rehashing of slot", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("MISCONF Redis is configured to save RDB snapshots", True),
        ("BUSY Redis is busy running a script.", True),
        ("UNBLOCKED force unblock from blocking operation", True),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("NOGROUP No such key 'tailrace:queue'", False),
        ("ERR unknown command 'BUSY '", False),
    ],
)
def test_a_reply(reply: str, transient: bool) -> None:
    """An error that Redis replies is the same alone and within a pipeline."""
    error = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    assert is_transient(error) is transient
    error.args = (f"Command # 1 (SET x y) of pipeline caused error: {error.args}",)
    assert is_transient(error) is transient


def test_what_is_lost_on_the_way() -> None:
    """A connection or a reply that does not come is a reason to try again."""
    assert is_transient(exceptions.ConnectionError())
    assert is_transient(exceptions.TimeoutError())
