"""Models by name: presets, and whatever timm knows."""

from __future__ import annotations

from outcrop.embed.presets import ALIASES, PRESETS, TIMM, Preset
from outcrop.schema.errors import WeightsError, nearest


def find(name: str) -> Preset:
    """The preset of that name (or of Meta's own spelling, such as ``dinov3_vith16plus``), or what timm knows of a
    model ``timm:<name>[.<tag>]``.

    Raises `WeightsError` that names the nearest.
    """
    if name.strip().startswith(TIMM):
        from outcrop.embed.timm_models import describe

        return describe(name.strip().removeprefix(TIMM))
    key = name.strip().lower().replace("-", "_")
    if found := PRESETS.get(key) or ALIASES.get(key):
        return found
    hint = nearest(key, [*PRESETS, *ALIASES]) or f"; choose one of {', '.join(PRESETS)}, or timm:<name>"
    raise WeightsError(f"no model is called {name!r}{hint}")
