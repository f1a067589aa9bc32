"""Settings: the file is overruled by .env, that by the environment, that by options; secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from outcrop.schema.errors import InputError
from outcrop.schema.settings import Settings, read_settings

SECRET = "root:hunter2"
NAMES = st.text("abcdefghijk_/", min_size=1, max_size=8)


@hypothesis_settings(max_examples=40)
@given(
    file=st.none() | NAMES,
    dotenv=st.none() | NAMES,
    environment=st.none() | NAMES,
    option=st.none() | NAMES,
    name=st.sampled_from(["uri", "collection", "model", "device"]),
)
def test_the_nearest_source_wins(
    file: str | None, dotenv: str | None, environment: str | None, option: str | None, name: str
) -> None:
    variable = f"OUTCROP_{name.upper()}"
    Path("outcrop.yaml").write_text(yaml.safe_dump({name: file} if file else {}))
    Path(".env").write_text(f"{variable}={dotenv}\n" if dotenv else "")
    with pytest.MonkeyPatch.context() as patch:
        if environment:
            patch.setenv(variable, environment)
        read = read_settings(**{name: option})
    expected = option or environment or dotenv or file or Settings.model_fields[name].default
    assert getattr(read, name) == expected


def test_defaults_are_the_documented_ones() -> None:
    read = read_settings()
    assert (read.uri, read.collection, str(read.registry), read.device) == (
        "./outcrop.db",
        "outcrop",
        "data_key.json",
        "auto",
    )
    assert read.token is None and read.model is None
    assert read.state == Path(".outcrop")


def test_datasets_lie_beside_the_registry_unless_told_otherwise() -> None:
    assert read_settings(registry=Path("/a/data_key.json")).datasets_folder == Path("/a")
    assert read_settings(registry=Path("/a/data_key.json"), datasets=Path("/b")).datasets_folder == Path("/b")


def test_a_named_file_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    Path("outcrop.yaml").write_text("collection: usual\nuri: usual.db\n")
    other = tmp_path / "other.yaml"
    other.write_text("collection: other\n")
    read = read_settings(other)
    assert (read.collection, read.uri) == ("other", "./outcrop.db")


@pytest.mark.parametrize("source", ["environment", "dotenv"])
def test_a_token_is_never_shown(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if source == "environment":
        monkeypatch.setenv("OUTCROP_TOKEN", SECRET)
    else:
        Path(".env").write_text(f"OUTCROP_TOKEN={SECRET}\n")
    read = read_settings()
    assert read.token is not None and read.token.get_secret_value() == SECRET
    for text in (repr(read), str(read), read.model_dump_json(), f"{read.token}"):
        assert "hunter2" not in text
    with pytest.raises(InputError) as caught:
        read_settings(timeout=-1)
    assert "hunter2" not in str(caught.value)


def test_a_token_in_the_file_is_refused_and_not_repeated() -> None:
    Path("outcrop.yaml").write_text(f"token: {SECRET}\n")
    with pytest.raises(InputError, match="OUTCROP_TOKEN") as caught:
        read_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colection: x", "did you mean 'collection'"),
        ("- a\n- b", "must hold NAME: value lines"),
        ("uri: [", "cannot be read as YAML"),
        ("timeout: soon", "timeout"),
        ("timeout: 0", "timeout"),
        ("uri: 3", "uri"),
        ("1: 2", "unknown setting"),
        ("collection: a\ncollection: b", "duplicate key"),
    ],
)
def test_mistakes_in_the_file_are_named(text: str, complaint: str) -> None:
    Path("outcrop.yaml").write_text(text)
    with pytest.raises(InputError, match=complaint) as caught:
        read_settings()
    assert "outcrop.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_and_empty_variables_count_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("outcrop.yaml").write_text("# nothing yet\n")
    monkeypatch.setenv("OUTCROP_COLLECTION", "")
    assert read_settings().collection == "outcrop"


def test_a_missing_named_file_is_an_error_a_missing_usual_one_is_not(tmp_path: Path) -> None:
    read_settings()
    with pytest.raises(InputError, match="no settings file at"):
        read_settings(tmp_path / "absent.yaml")


def test_text_that_is_not_utf_8_is_named() -> None:
    Path("outcrop.yaml").write_bytes(b"collection: \xff\xfe\n")
    with pytest.raises(InputError, match=r"outcrop\.yaml"):
        read_settings()


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings().uri = "x"  # type: ignore[misc]
