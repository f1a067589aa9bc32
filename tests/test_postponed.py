"""Libraries imported without modules that nobody uses: these are imported once something is asked of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from outcrop.schema.postponed import import_without


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library `wants`, which takes names from a module `heavy` that says when it is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy/__init__.py").write_text(
        "import sys\nsys.heavy_was_imported = True\nCONSTANT = 7\nclass Table: pass\n"
        "def double(x): return 2 * x\ndef shout(f): return lambda: f().upper()\n"
    )
    (tmp_path / "wants.py").write_text(
        "import heavy\nfrom heavy import double\n@heavy.shout\ndef greet(): return 'hello'\n"
        "def is_table(x: heavy.Table): return isinstance(x, heavy.Table)\ndef constant(): return heavy.CONSTANT\n"
    )
    yield tmp_path  # type: ignore[misc]
    for name in ("heavy", "wants", "eager"):
        sys.modules.pop(name, None)
    if hasattr(sys, "heavy_was_imported"):
        del sys.heavy_was_imported


POSTPONED = {"heavy": ("double", "@shout", "Table")}


@pytest.mark.parametrize(
    "asked, answer",
    [("double(4)", 8), ("greet()", "HELLO"), ("constant()", 7), ("heavy.shout(greet)()", "HELLO")],
)
def test_a_module_is_imported_once_it_is_used(library: Path, asked: str, answer: object) -> None:
    wants = import_without("wants", POSTPONED)
    assert not hasattr(sys, "heavy_was_imported") and "heavy" not in sys.modules
    assert not wants.is_table(3), "nothing is of a class that nobody imported"
    assert not hasattr(sys, "heavy_was_imported")
    assert eval(asked, vars(wants)) == answer
    assert sys.heavy_was_imported  # type: ignore[attr-defined]


def test_classes_are_those_of_the_real_module(library: Path) -> None:
    wants = import_without("wants", POSTPONED)
    import heavy  # type: ignore[import-not-found]

    assert wants.is_table(heavy.Table()) and not wants.is_table(3)


def test_what_was_imported_before_stays(library: Path) -> None:
    import heavy

    wants = import_without("wants", POSTPONED)
    assert wants.heavy is heavy is sys.modules["heavy"]


def test_a_library_that_wants_more_is_imported_as_usual(library: Path) -> None:
    (library / "eager.py").write_text("import heavy\nfrom heavy import nothing\n")
    with pytest.raises(ImportError, match="nothing"):
        import_without("eager", {"heavy": ("double",)})
    (library / "eager.py").write_text("import heavy\nvalue = heavy.double(heavy.CONSTANT)\n")
    assert import_without("eager", {"heavy": ()}).value == 14
    assert sys.modules["heavy"].CONSTANT == 7
