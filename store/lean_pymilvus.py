"""pymilvus, imported without pandas: it takes tables of pandas, and nobody gives it any.

Whoever needs pymilvus imports it from here: ``from outcrop.store.lean_pymilvus import pymilvus``.
"""

from __future__ import annotations

from typing import Any

from outcrop.schema.postponed import import_without

_TYPES = ("infer_dtype", "is_array_like", "is_float", "is_list_like", "is_scalar")

pymilvus: Any = import_without("pymilvus", {"pandas": ("DataFrame",), "pandas.api": (), "pandas.api.types": _TYPES})
