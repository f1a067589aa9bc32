"""Index profiles: parameters within their ranges, and a clear word where a backend cannot have what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.schema.errors import InputError
from outcrop.schema.indexes import GPU_TOP_K, PROFILES, profile_for, profile_named

NAMES = st.sampled_from(sorted(PROFILES))
OLD, NEW = (2, 3, 5), (3, 0, 4)


@given(NAMES, st.integers(1, 16_384), st.floats(0, 1))
def test_search_parameters_stay_within_what_milvus_takes(name: str, k: int, kept: float) -> None:
    profile = PROFILES[name]
    if profile.gpu and k > GPU_TOP_K:
        with pytest.raises(InputError, match=f"at most {GPU_TOP_K} hits"):
            profile.search_params(k, kept)
        return
    params = profile.search_params(k, kept)
    assert set(params) == set(profile.search)
    for parameter, value in params.items():
        assert profile.search[parameter].check(name, parameter, value) == value
        assert isinstance(value, int)
    for candidates in ("ef", "search_list", "itopk_size"):
        assert params.get(candidates, k) >= k, "an index looks at k candidates at least"


@given(NAMES, st.integers(1, GPU_TOP_K), st.floats(0, 1), st.floats(0, 1))
def test_a_filter_that_keeps_less_makes_the_search_wider(name: str, k: int, one: float, other: float) -> None:
    wide, narrow = (PROFILES[name].search_params(k, kept) for kept in sorted((one, other)))
    assert all(wide[parameter] >= narrow[parameter] for parameter in wide)


def test_cagra_always_asks_for_eight_samplings() -> None:
    """With one, recall falls to about 60 % on segments of more than 100 k rows."""
    assert PROFILES["GPU_CAGRA"].search_params(10)["num_random_samplings"] == 8


@given(NAMES)
def test_defaults_are_allowed_values(name: str) -> None:
    profile = PROFILES[name]
    assert profile.build_params(profile.build_params()) == profile.build_params()


@pytest.mark.parametrize(
    ("index", "given_params", "complaint"),
    [
        ("HNSW", {"m": 8}, "no build parameter 'm'"),
        ("HNSW", {"efConstructon": 8}, "did you mean 'efConstruction'"),
        ("HNSW", {"M": 1}, "between 2 and 2048"),
        ("HNSW", {"M": "8"}, "must be a number"),
        ("HNSW", {"M": True}, "must be a number"),
        ("HNSW_SQ", {"sq_type": "SQ4"}, "SQ6, SQ8"),
        ("IVF_FLAT", {"nlist": 65537}, "between 1 and 65536"),
        ("FLAT", {"nlist": 1}, "no build parameter"),
    ],
)
def test_wrong_build_parameters_are_named(index: str, given_params: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        PROFILES[index].build_params(given_params)


def test_given_build_parameters_replace_the_defaults() -> None:
    assert PROFILES["HNSW"].build_params({"M": 8}) == {"M": 8, "efConstruction": 256}


def test_names_are_found_in_any_case_and_the_nearest_is_named() -> None:
    assert profile_named("gpu_cagra") is PROFILES["GPU_CAGRA"]
    with pytest.raises(InputError, match="did you mean 'HNSW'"):
        profile_named("HSNW")
    with pytest.raises(InputError, match="known: FLAT"):
        profile_named("???")


@given(NAMES)
def test_lite_gets_only_what_it_can_load_again(name: str) -> None:
    profile, note = profile_for(name, None)
    assert profile.lite and not profile.gpu
    assert bool(note) == (profile.name != name)
    if note:
        assert name in note and profile.name in note


@given(NAMES, st.tuples(st.integers(2, 3), st.integers(0, 9), st.integers(0, 30)))
def test_a_server_gets_what_was_asked_for_or_says_it_is_too_old(name: str, server: tuple[int, int, int]) -> None:
    try:
        profile, note = profile_for(name, server)
    except InputError as error:
        assert server < PROFILES[name].since
        assert f"this server is {'.'.join(map(str, server))}" in str(error)
    else:
        assert server >= PROFILES[name].since
        assert (profile.name, note) == (name, "")


def test_cagra_needs_a_server_without_its_recall_bug() -> None:
    with pytest.raises(InputError, match=r"GPU_CAGRA needs Milvus 2\.6\.20 or newer, this server is 2\.3\.5"):
        profile_for("GPU_CAGRA", OLD)
    assert profile_for("GPU_CAGRA", NEW)[0].gpu
