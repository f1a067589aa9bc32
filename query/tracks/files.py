"""A track as GeoJSON (RFC 7946) and as KML (OGC 2.3): the path as a line, and a point for each frame with a place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from outcrop.query.tracks.answers import frame_json
from outcrop.query.tracks.track import Track, TrackFrame
from outcrop.query.verification.location import Place
from outcrop.schema.files import whole_file
from outcrop.screen.texts import harmless

COLOURS = {"located": "ff4f6f2f", "outlier": "ff1a54b4", "bridged": "ffa0a0a0"}
"""By status, as KML writes colours: alpha, blue, green, red."""


def write_geojson(track: Track, path: Path) -> Path:
    """Writes a track as one feature collection, replacing the file whole: the path (`role` "track"), then its frames ("frame").

    Raises:
        InputError: it cannot be written.
    """
    line = [_coordinates(place) for _, place in _placed(track)]
    features = []
    if len(line) > 1:
        properties = {"role": "track", "collection": track.collection, "metres": round(track.metres, 1)}
        features.append(_feature("LineString", line, properties))
    features += [_feature("Point", _coordinates(place), _facts(each)) for each, place in _placed(track)]
    text = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1)
    return _write(path, text + "\n", "--geojson")


def write_kml(track: Track, path: Path) -> Path:
    """Writes a track as KML, replacing the file whole: the path on the ground, and its frames with their times.

    Raises:
        InputError: it cannot be written.
    """
    styles = "".join(
        f'<Style id="{status}"><IconStyle><color>{colour}</color><scale>0.5</scale></IconStyle><LabelStyle><scale>0</scale>'
        "</LabelStyle></Style>\n"
        for status, colour in COLOURS.items()
    )
    line = " ".join(_pair(place) for _, place in _placed(track))
    path_of = (
        "<Placemark><name>path</name><Style><LineStyle><color>ff1a54b4</color><width>3</width></LineStyle></Style>"
        f"<LineString><tessellate>1</tessellate><coordinates>{line}</coordinates></LineString></Placemark>\n"
        if line.count(" ")
        else ""
    )
    points = "".join(_placemark(each, place) for each, place in _placed(track))
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n'
        f"<name>{_xml(track.collection)}</name>\n{styles}{path_of}{points}</Document></kml>\n"
    )
    return _write(path, document, "--kml")


def _placed(track: Track) -> list[tuple[TrackFrame, Place]]:
    return [(each, each.place) for each in track.frames if each.place is not None]


def _placemark(each: TrackFrame, place: Place) -> str:
    said = f"{each.status}, ± {each.spread:.1f} m" if each.spread is not None else each.status
    when = f"<TimeStamp><when>{_xml(each.frame.captured_at)}</when></TimeStamp>" if each.frame.captured_at else ""
    return (
        f"<Placemark><name>{_xml(each.frame.name)}</name><description>{_xml(said)}</description>{when}"
        f"<styleUrl>#{each.status}</styleUrl><Point><coordinates>{_pair(place)}</coordinates></Point></Placemark>\n"
    )


def _xml(text: str) -> str:
    """A text for XML, which knows no control characters and no lone surrogates."""
    return escape(harmless(text).encode("utf-8", "backslashreplace").decode())


def _pair(place: Place) -> str:
    return f"{place[1]:.7f},{place[0]:.7f}"


def _coordinates(place: Place) -> list[float]:
    return [round(place[1], 7), round(place[0], 7)]


def _facts(each: TrackFrame) -> dict[str, Any]:
    values = frame_json(each)
    unwanted = ("candidates", "latitude", "longitude")
    return {"role": "frame"} | {name: value for name, value in values.items() if name not in unwanted}


def _feature(kind: str, coordinates: Any, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def _write(path: Path, text: str, option: str) -> Path:
    with whole_file(path, what=f"{option} {path}", fix="give another file", durable=False) as file:
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path
