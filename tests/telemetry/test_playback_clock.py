"""The time that a dashboard shows: live, held, and in a recording."""

from __future__ import annotations

import math
import time

import pytest

from mlxdeck.telemetry.playback_clock import SPEEDS, PlaybackClock, moment


class Wall:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 5000.0

    def __call__(self) -> float:
        return self.now_s


def replay(speed: float = 1.0) -> tuple[PlaybackClock, Wall]:
    """A recording from 100 to 200."""
    wall = Wall()
    clock = PlaybackClock(wall, replay=True, speed=speed)
    clock.bounds(100, 200)
    return clock, wall


@pytest.mark.parametrize("skew_s", [-7200.0, -61.0, -3.0, 0.0, 20.0, 86_400.0])
def test_the_present_is_that_of_the_stream_that_grows(skew_s: float) -> None:
    """Whatever its clock says, from the second tick on; a few seconds are no other clock."""
    wall = Wall()
    clock = PlaybackClock(wall)
    for n in range(6):
        wall.now_s = 5000 + 10 * n
        clock.bounds(0, wall.now_s + skew_s - 0.2)
        used_s = skew_s - 0.2 if n and abs(skew_s) > 5 else 0
        assert clock.wall == clock.now == pytest.approx(wall.now_s + used_s)


def test_an_old_stream_that_is_copied_has_no_other_clock() -> None:
    """Its lines come faster than they were written, or all at once."""
    wall = Wall()
    clock = PlaybackClock(wall)
    for n in range(50):
        wall.now_s += 0.15 if n % 7 else 2
        clock.bounds(0, 1000 + 60.0 * n)
        assert clock.now == wall.now_s


def test_a_clock_that_is_set_anew_is_followed() -> None:
    """This machine's may go back; many lines at once are no more than one."""
    wall = Wall()
    clock = PlaybackClock(wall)
    for n in range(100):
        wall.now_s = 5000 + n / 10 - (3000 if n >= 50 else 0)
        clock.bounds(0, 9000 + n / 10)
    assert clock.now == pytest.approx(9000 + 99 / 10)


def test_live_is_the_wall_clock_unless_it_is_held() -> None:
    """And going on means the present, not where it stood."""
    wall = Wall()
    clock = PlaybackClock(wall)
    assert clock.now == 5000
    clock.toggle()
    wall.now_s = 5010
    assert (clock.now, clock.paused) == (5000, True)
    clock.toggle()
    assert (clock.now, clock.paused) == (5010, False)


def test_of_a_stream_that_ended_now_is_its_end() -> None:
    """Until it goes on; a replay has a place of its own."""
    wall = Wall()
    clock, replay = PlaybackClock(wall), PlaybackClock(wall, replay=True)
    replay.bounds(100, 200)
    for each in (clock, replay):
        each.end_at(4500)
    assert (clock.now, clock.unheld, clock.over) == (4500, 4500, True)
    assert (replay.now, replay.over, clock.wall) == (100, False, 5000)
    assert clock.shows_end and not replay.shows_end
    clock.hold_at(4499)
    assert clock.over and not clock.shows_end
    clock.toggle()
    clock.end_at(None)
    assert clock.now == 5000 and not clock.over and not clock.shows_end


def test_a_replay_begins_with_something_to_see() -> None:
    """Also if that is read later; where the user went meanwhile, it stays."""
    for moved in (False, True):
        clock = PlaybackClock(Wall(), replay=True)
        clock.bounds(100, 200)
        assert clock.now == 100
        if moved:
            clock.seek(150)
        clock.bounds(100, 300, 120)
        assert clock.now == (150 if moved else 120)
        clock.bounds(50, 300, 80)
        assert clock.now == (150 if moved else 80)


@pytest.mark.parametrize("speed", SPEEDS[:-1])
def test_a_replay_moves_at_its_speed_up_to_the_end(speed: float) -> None:
    """From the recording's start."""
    clock, wall = replay(speed)
    assert (clock.now, clock.position) == (100, 0)
    wall.now_s += 10 / speed
    assert clock.now == pytest.approx(110)
    wall.now_s += 1000 / speed
    assert (clock.now, clock.ended, clock.position) == (200, True, 1)


def test_as_fast_as_it_reads_is_at_the_end_at_once() -> None:
    """Whatever has been read by then."""
    clock, _ = replay(math.inf)
    assert clock.now == 200
    clock.bounds(100, 300)
    assert clock.now == 300


def test_a_replay_pauses_and_goes_on_where_it_was() -> None:
    """From the end it begins again."""
    clock, wall = replay()
    wall.now_s += 30
    clock.toggle()
    wall.now_s += 30
    assert clock.now == 130
    clock.toggle()
    wall.now_s += 5
    assert clock.now == 135
    clock.seek(999)
    clock.toggle()
    clock.toggle()
    assert clock.now == 100


def test_seeking_stays_within_the_recording() -> None:
    """Playing goes on from there; held stays held."""
    clock, wall = replay()
    clock.seek(150)
    wall.now_s += 1
    assert clock.now == 151
    clock.hold_at(20)
    assert (clock.now, clock.paused) == (100, True)
    clock.seek(180)
    wall.now_s += 1
    assert clock.now == 180


def test_changing_the_speed_does_not_jump() -> None:
    """It goes through the list and stops at its ends."""
    clock, wall = replay()
    wall.now_s += 10
    clock.faster(1)
    assert (clock.now, clock.speed) == (110, 2)
    wall.now_s += 10
    assert clock.now == 130
    clock.faster(-99)
    assert clock.speed == SPEEDS[0]
    clock.faster(99)
    assert clock.speed == math.inf


def test_a_recording_that_grows_keeps_its_place() -> None:
    """Older parts may be read later, too."""
    clock, wall = replay()
    wall.now_s += 10
    clock.bounds(100, 400)
    assert clock.now == 110
    clock, wall = replay()
    clock.bounds(50, 200)
    assert clock.now == 50


def test_moments_are_named_as_people_do() -> None:
    """Shares, steps and times of day."""
    clock, _ = replay()
    assert moment("50%", clock) == 150
    assert moment("+30s", clock) == 130
    assert moment(" -1m ", clock) == 40
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(160))
    assert moment(day, clock) == 160
    assert moment("1m30s", clock) == 190 and moment("20s", clock) == 120
    for outside in ("2m", "150%", "2026-11-25", time.strftime("%H:%M:%S", time.localtime(9000))):
        with pytest.raises(ValueError, match="the recording goes from .* to "):
            moment(outside, clock)
    for text in ("%", "soon", "25", "+5", "25:00", "14:99", "2026-99-99"):
        with pytest.raises(ValueError, match="is expected"):
            moment(text, clock)
    start = 1_790_000_000.0
    clock = PlaybackClock(Wall(), replay=True)
    clock.bounds(start, start + 3600)
    named = time.strftime("%H:%M:%S", time.localtime(start + 600))
    assert moment(named, clock) == start + 600
    # The next day, if that is where it lies.
    clock.bounds(start, start + 20 * 3600)
    named = time.strftime("%H:%M:%S", time.localtime(start + 18 * 3600))
    assert moment(named, clock) == start + 18 * 3600


def test_what_ended_at_full_speed_begins_again_so_that_one_sees_it() -> None:
    """As fast as it reads, it would be at its end at once."""
    clock, wall = replay()
    clock.faster(20)
    assert clock.ended
    clock.toggle()
    assert clock.now == 100 and clock.speed == 1
    wall.now_s += 5
    assert clock.now == 105
