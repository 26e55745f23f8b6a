"""Environment variables of a run of the tests: valid values apply, others are refused in plain words."""

import pytest

from tests.support.seeds import END, seconds, seed


def test_a_seed_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken; without one, another is drawn each time."""
    monkeypatch.setenv("STORM_SEED", "42")
    assert seed("STORM_SEED") == 42
    monkeypatch.setenv("STORM_SEED", "")
    drawn = {seed("STORM_SEED") for _ in range(10)}
    assert len(drawn) > 1
    assert max(drawn) < END


@pytest.mark.parametrize("value", ["abc", "-1", "1.5"])
def test_a_seed_that_is_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends, and says which variable is wrong and what it should be."""
    monkeypatch.setenv("STORM_SEED", value)
    with pytest.raises(pytest.UsageError, match=f"STORM_SEED must be a seed .* a whole number, not '{value}'"):
        seed("STORM_SEED")


@pytest.mark.parametrize("value", ["soon", "0", "-3", "nan", "1e9"])
def test_seconds_that_are_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for how long a storm lasts."""
    monkeypatch.delenv("STORM_S", raising=False)
    assert seconds("STORM_S", 120) == 120
    monkeypatch.setenv("STORM_S", value)
    with pytest.raises(pytest.UsageError, match=f"STORM_S must be seconds, .*, not '{value}'"):
        seconds("STORM_S", 120)
