"""Index profiles: parameters within their ranges, and a clear word where a backend cannot have what was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.schema.errors import InputError
from outcrop.schema.indexes import GPU_TOP_K, LARGE_ROWS, PROFILES, profile_for, profile_named

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
    assert set(params) <= set(profile.search) and bool(params) == bool(profile.search)
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
        ("HNSW", {"M": float("nan")}, "must be a whole number"),
        ("HNSW", {"M": 8.5}, "must be a whole number"),
        ("HNSW_SQ", {"sq_type": "SQ4"}, "SQ6, SQ8"),
        ("HNSW_SQ", {"refine": "yes"}, "true or false"),
        ("HNSW_SQ", {"refine": 1}, "true or false"),
        ("HNSW_SQ", {"refine_type": "SQ8"}, "must be finer than sq_type SQ8"),
        ("HNSW_SQ", {"refine": False, "refine_type": "FP16"}, "refine_type is for refine = true"),
        ("IVF_RABITQ", {"refine_type": "SQ4U"}, "must be one of SQ6"),
        ("AISAQ", {"inline_pq": 2049}, "between 0 and 2048"),
        ("GPU_CAGRA", {"graph_degree": 129}, "at most intermediate_graph_degree"),
        ("GPU_CAGRA", {"adapt_for_cpu": "maybe"}, "true or false"),
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


# -- what depends on the vectors, the build and the server -------------------------------------------------------------


def test_a_graph_on_a_gpu_has_half_the_neighbours_where_rows_are_many() -> None:
    """docs: intermediate_graph_degree 64 and graph_degree 32 are recommended; 128 and 64 are the defaults."""
    profile = PROFILES["GPU_CAGRA"]
    small, large = profile.build_params(rows=LARGE_ROWS - 1), profile.build_params(rows=LARGE_ROWS)
    assert small == {"intermediate_graph_degree": 128, "graph_degree": 64}
    assert large == {"intermediate_graph_degree": 64, "graph_degree": 32}
    given = {"cache_dataset_on_device": "true", "graph_degree": 48}
    assert profile.build_params(given, rows=LARGE_ROWS) == {
        **large,
        "cache_dataset_on_device": True,
        "graph_degree": 48,
    }


@given(st.integers(1, GPU_TOP_K), st.floats(0, 1))
def test_a_graph_that_is_adapted_for_cpus_is_asked_with_ef(k: int, kept: float) -> None:
    profile = PROFILES["GPU_CAGRA"]
    params = profile.search_params(k, kept, profile.build_params({"adapt_for_cpu": True}))
    assert set(params) == {"ef", "num_random_samplings"} and params["ef"] >= k


@pytest.mark.parametrize(("dim", "m"), [(384, 384), (1024, 1024), (1001, 1000), (8, 8), (6, 6)])
def test_a_compressed_list_has_a_byte_for_each_number(dim: int, m: int) -> None:
    assert PROFILES["GPU_IVF_PQ"].build_params(dim=dim)["m"] == m
    assert PROFILES["GPU_IVF_PQ"].build_params({"m": 4}, dim=dim)["m"] == 4


@pytest.mark.parametrize(
    ("index", "given_params", "refine"),
    [
        ("HNSW_SQ", {}, None),
        ("HNSW_SQ", {"sq_type": "SQ4U"}, ("FP16", 4)),
        ("HNSW_SQ", {"sq_type": "SQ4U", "refine_type": "SQ6"}, ("SQ6", 4)),
        ("HNSW_SQ", {"sq_type": "SQ4U", "refine": False}, None),
        ("HNSW_SQ", {"refine": "true"}, ("FP16", 2)),
        ("HNSW_SQ", {"refine_type": "FP32"}, ("FP32", 2)),
        ("IVF_RABITQ", {}, ("SQ8", 4)),
        ("IVF_RABITQ", {"refine_type": "FP32"}, ("FP32", 4)),
        ("IVF_RABITQ", {"refine": "false"}, None),
    ],
)
def test_what_is_coarse_is_refined(index: str, given_params: dict[str, object], refine: tuple[str, int] | None) -> None:
    profile = PROFILES[index]
    build = profile.build_params(given_params)
    found = (build["refine_type"], profile.search_params(10, build=build)["refine_k"]) if build.get("refine") else None
    assert found == refine
    assert ("refine_k" in profile.search_params(10, build=build)) == (refine is not None)
    assert profile.build_params(build) == build, "what is on record builds the same again"


@pytest.mark.parametrize(
    ("index", "given_params", "server", "complaint"),
    [
        ("HNSW_SQ", {"sq_type": "SQ4U"}, (2, 6, 7), r"SQ4U needs Milvus 2\.6\.8 or newer, this server is 2\.6\.7"),
        ("HNSW_SQ", {"sq_type": "SQ4U"}, None, r"Milvus Lite has no sq_type = SQ4U; it knows SQ8"),
        ("HNSW_SQ", {"sq_type": "BF16"}, None, r"it knows SQ8"),
        ("HNSW_SQ", {"refine": True}, None, r"Milvus Lite has no refine"),
    ],
)
def test_parameters_that_a_server_does_not_know(
    index: str, given_params: dict[str, object], server: tuple[int, int, int] | None, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        PROFILES[index].build_params(given_params, server=server)
    assert PROFILES[index].build_params(given_params, server=(2, 6, 8))


@pytest.mark.parametrize(
    ("index", "version"), [("IVF_RABITQ", (2, 6, 0)), ("AISAQ", (2, 6, 4)), ("HNSW_SQ", (2, 5, 0))]
)
def test_indexes_and_the_version_that_first_has_them(index: str, version: tuple[int, int, int]) -> None:
    """milvus.io/docs: ivf-rabitq.md, aisaq.md, hnsw-sq.md ("Compatible with Milvus …")."""
    assert profile_for(index, version) == (PROFILES[index], "")
    with pytest.raises(InputError, match=rf"{index} needs Milvus {version[0]}\.{version[1]}\.{version[2]} or newer"):
        profile_for(index, OLD)
