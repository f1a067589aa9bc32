"""Films and their telemetry: which frame a moment is, what damaged films still give, and DJI's dialects of SRT."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import Damage, Flight, cue, pose, seen, write_film, write_flight

from outcrop.embed.film import Film, moment_of, moment_path, read_moment
from outcrop.embed.images import decode
from outcrop.embed.telemetry import read_telemetry, telemetry_beside
from outcrop.query.verification.features import read_picture
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.films import seconds_of


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Flight:
    return write_flight(tmp_path_factory.mktemp("card"))


def test_a_moment_is_the_frame_that_is_shown_then_and_found_again_exactly(flight: Flight) -> None:
    with Film(flight.film) as film:
        assert (film.size, film.rate, film.duration) == ((320, 240), 5, 12)
        assert film.moments(1.0) == list(range(12)) and film.moments(2.5) == [0, 2.5, 5, 7.5, 10]
        found = list(film.read(film.moments(0.5)))
    assert [moment.second for moment in found] == [n / 2 for n in range(24)]
    for moment in found:
        assert moment.image is not None
        frame = np.ceil(moment.second * 5 - 0.5) / 5
        assert np.abs(np.asarray(moment.image, int) - np.asarray(seen(frame), int)).mean() < 4
        path = moment_path(flight.film, moment.second)
        again = decode(read_picture(path), name=str(path)).image
        assert np.array_equal(np.asarray(again), np.asarray(moment.image)), moment.second


@pytest.mark.parametrize(("codec", "ending"), [("mpeg4", "avi"), ("libvpx-vp9", "webm"), ("mpeg4", "mov")])
def test_other_codecs_and_containers(tmp_path: Path, codec: str, ending: str) -> None:
    with Film(write_film(tmp_path / f"a.{ending}", codec, 2)) as film:
        moments = list(film.read(film.moments(1.0)))
    assert [moment.image is not None for moment in moments] == [True, True]


def test_a_film_damaged_in_its_middle_gives_what_can_be_read(flight: Flight, tmp_path: Path) -> None:
    with Film(Damage(0.4, 0.5).done_to(flight.film, tmp_path / "a.mp4")) as film:
        moments = list(film.read(film.moments(1.0)))
    lost = [moment.second for moment in moments if moment.image is None]
    assert 1 <= len(lost) <= 6 and lost == [float(n) for n in range(int(lost[0]), int(lost[-1]) + 1)]
    assert all("damaged there" in moment.reason for moment in moments if moment.image is None)
    with Film(flight.film) as film:
        whole = {moment.second: moment.image for moment in film.read(film.moments(1.0))}
    for moment in moments:
        if moment.image is not None:
            assert np.array_equal(np.asarray(moment.image), np.asarray(whole[moment.second])), moment.second


def test_films_that_cannot_be_opened_are_refused_with_the_way_out(flight: Flight, tmp_path: Path) -> None:
    whole = flight.film.read_bytes()
    for name, data in (("cut.mp4", whole[: len(whole) // 2]), ("empty.mp4", b""), ("text.mp4", b"hello" * 100)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PictureError, match=rf"{name}: cannot be opened as a film .*copy it again"):
            Film(tmp_path / name)
    with pytest.raises(PictureError, match=r"#t=99: the film ends at 11\.80 s"):
        read_moment(flight.film, 99)


def test_without_the_extra_it_is_named(flight: Flight, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"is a film; install outcrop\[video\] to read it"):
        Film(flight.film)


def test_a_file_that_is_called_like_a_moment_is_itself(tmp_path: Path) -> None:
    assert moment_of(Path("a/DJI.MP4#t=1.5")) == (Path("a/DJI.MP4"), 1.5)
    assert moment_of(Path("a/photo.jpg#t=1")) is None and moment_of(Path("a/DJI.MP4")) is None
    (tmp_path / "DJI.MP4#t=1").write_bytes(b"?")
    assert moment_of(tmp_path / "DJI.MP4#t=1") is None


def test_telemetry_of_newer_aircraft(flight: Flight) -> None:
    assert telemetry_beside(flight.film) == flight.srt
    telemetry = read_telemetry(flight.srt.read_bytes())
    facts, absolute = telemetry.at(3.0)
    assert (facts.latitude, facts.longitude) == pytest.approx(pose(3.0).place, abs=2e-6)
    assert (facts.relative_altitude, absolute, facts.yaw, facts.pitch) == (70.0, 90.0, 350.0, -90.0)
    assert (facts.captured_at, facts.position_source) == ("2025-09-18T09:00:03", "srt")
    assert telemetry.at(3.1)[0].latitude == pytest.approx(pose(3.1).place[0], abs=2e-6)
    assert telemetry.at(60)[0].latitude is None


OLDER = {
    "Mavic Air 2": "[iso : 110] [latitude: 47.123456] [longtitude: 8.654321] [altitude: 512.300003] ",
    "Mavic Pro": "HOME(8.6500,47.1200) 2017.06.12 09:12:30\nGPS(8.654321,47.123456,19) BAROMETER:30.5\nISO:100 Shutter:60",
    "Phantom 4": "F/2.8, SS 399, ISO 100, EV 0, GPS (8.654321, 47.123456, 15), D 224.58m, H 30.50m, H.S 1.00m/s, V.S 0.00m/s",
}


@pytest.mark.parametrize("aircraft", OLDER)
def test_telemetry_of_older_aircraft(aircraft: str) -> None:
    facts, absolute = read_telemetry((cue(0, OLDER[aircraft]) + cue(5, OLDER[aircraft])).encode()).at(0.5)
    assert (facts.latitude, facts.longitude) == (47.123456, 8.654321)
    assert facts.relative_altitude == (None if aircraft == "Mavic Air 2" else 30.5)
    assert absolute == (512.300003 if aircraft == "Mavic Air 2" else None)
    assert facts.captured_at == ("2017-06-12T09:12:30" if aircraft == "Mavic Pro" else None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no cues",
        cue(0, "[latitude: 0.0] [longitude: 0.0]"),
        cue(0, "[latitude: 91] [longitude: 1]"),
        cue(0, "GPS(nan,1,2)"),
    ],
)
def test_telemetry_that_says_no_place(text: str) -> None:
    telemetry = read_telemetry(text.encode())
    assert telemetry.places == 0 and telemetry.at(0)[0].latitude is None


def test_times_between_frames() -> None:
    assert [seconds_of(text) for text in ("1s", "500ms", "2 min", "0.5", "2m")] == [1, 0.5, 120, 0.5, 120]
    for text in ("often", "0s", "2h", "-1s", "nan"):
        with pytest.raises(InputError, match="--every must be"):
            seconds_of(text)
