"""Who is logged in, and how long."""

from relay_app.console.sessions import Sessions


def test_a_session_lives_until_it_ends(clock) -> None:
    sessions = Sessions(clock)
    first, second = sessions.begin(), sessions.begin()
    assert first != second
    assert len(first) >= 43  # 256 bits
    assert sessions.touch(first)
    sessions.end(first)
    sessions.end("unknown")
    assert not sessions.touch(first)
    assert sessions.touch(second)


def test_unknown_ids_are_no_sessions(clock) -> None:
    assert not Sessions(clock).touch("")


def test_an_idle_session_ends_after_two_hours(clock) -> None:
    sessions = Sessions(clock)
    id = sessions.begin()
    clock.advance(7200)
    assert sessions.touch(id)
    clock.advance(7201)
    assert not sessions.touch(id)
    assert not sessions.touch(id)


def test_a_session_ends_after_a_day_however_busy(clock) -> None:
    sessions = Sessions(clock)
    id = sessions.begin()
    for _ in range(24):
        clock.advance(3600)
        assert sessions.touch(id)
    clock.advance(1)
    assert not sessions.touch(id)


def test_the_session_unused_for_longest_makes_room(clock) -> None:
    sessions = Sessions(clock)
    ids = [sessions.begin() for _ in range(100)]
    assert sessions.touch(ids[0])
    sessions.begin()
    assert sessions.touch(ids[0])
    assert not sessions.touch(ids[1])
    assert sessions.touch(ids[2])
