"""Sizes before anything runs: they grow with the rows, keep to the hardware's limits, and say when it does not fit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.schema.errors import InputError
from outcrop.schema.indexes import LARGE_ROWS, PROFILES
from outcrop.store.plan import GIB, GPU_GIB, LITE_ROWS, LOAD_LIMIT, NODE_GIB, ONE_MACHINE_ROWS, OPTIONS, Rate, plan
from outcrop.store.sizes import FORMULAS, ROW_BYTES

SIZES = ("raw", "host_memory", "gpu_memory", "build_peak", "disk", "thumbnails")


@pytest.mark.parametrize("index", list(PROFILES))
def test_every_index_has_sizes(index: str) -> None:
    made = plan(1_000_000, 768, index, rate=100, build_rate=1000)
    assert made.index == index and made.raw == 1_000_000 * 768 * 4
    assert made.host_memory > 0 and made.disk > made.raw and made.build_peak >= made.raw and made.thumbnails > 0
    assert (made.gpu_memory > 0) == PROFILES[index].gpu
    assert made.embed_hours == pytest.approx(1e4 / 3600)
    assert made.build_hours == (0 if PROFILES[index].exact else pytest.approx(1e3 / 3600))
    assert PROFILES[index].note in made.advice and made.fits is None


@given(
    st.sampled_from(list(PROFILES)),
    st.integers(1, 10**11),
    st.integers(0, 10**11),
    st.integers(1, 4096),
    st.integers(0, 4096),
)
def test_more_rows_or_numbers_never_need_less(index: str, rows: int, more: int, dim: int, longer: int) -> None:
    small, large = plan(rows, dim, index), plan(rows + more, dim + longer, index)
    assert all(getattr(small, size) <= getattr(large, size) for size in SIZES)


@pytest.mark.parametrize(
    ("rows", "gpu", "host", "backend", "index"),
    [
        (1, None, None, "Milvus Lite", "FLAT"),
        (100_000, None, None, "Milvus Lite", "FLAT"),
        (100_001, None, None, "Milvus Lite", "HNSW"),
        (LITE_ROWS, None, None, "Milvus Lite", "HNSW"),
        (LITE_ROWS + 1, None, None, "Milvus standalone", "HNSW"),
        (1000, 24, None, "Milvus standalone", "GPU_CAGRA"),
        (5_000_000, 24, None, "Milvus standalone", "GPU_CAGRA"),
        (20_000_000, 24, None, "Milvus standalone", "GPU_IVF_PQ"),
        (5_000_000, None, 64, "Milvus standalone", "HNSW"),
        (5_000_000, None, 12, "Milvus standalone", "HNSW_SQ"),
        (5_000_000, None, 8, "Milvus standalone", "DISKANN"),
        (ONE_MACHINE_ROWS, None, None, "Milvus standalone", "HNSW"),
        (ONE_MACHINE_ROWS + 1, None, None, "Milvus Distributed", "HNSW_SQ"),
        (100_000_000, None, 256, "Milvus Distributed", "HNSW_SQ"),
        (400_000_000, None, 128, "Milvus Distributed", "HNSW_SQ"),
        (400_000_000, None, 40, "Milvus Distributed", "DISKANN"),
        (1_000_000_000, None, 256, "Milvus Distributed", "IVF_RABITQ"),
        (1_000_000_000, None, 64, "Milvus Distributed", "AISAQ"),
        (ONE_MACHINE_ROWS + 1, 80, None, "Milvus Distributed", "GPU_IVF_PQ"),
    ],
)
def test_recommendations(rows: int, gpu: float | None, host: float | None, backend: str, index: str) -> None:
    made = plan(rows, 768, gpu_gib=gpu, host_gib=host)
    assert (made.backend, made.index) == (backend, index)


@given(st.integers(1, 10**9), st.integers(1, 4096), st.floats(0.1, 4000), st.floats(0.1, 4000))
def test_what_is_said_to_fit_fits(rows: int, dim: int, gpu: float, host: float) -> None:
    for made in (
        plan(rows, dim, gpu_gib=gpu, host_gib=host),
        plan(rows, dim, host_gib=host),
        plan(rows, dim, gpu_gib=gpu),
    ):
        limits = [(made.gpu_memory, gpu), (made.host_memory, host)]
        if made.fits:
            # A limit that was not given is not held against it, and the GPU's share is 0 for the others.
            assert made.gpu_memory <= gpu * GIB * LOAD_LIMIT
        else:
            assert any(need > limit * GIB * LOAD_LIMIT for need, limit in limits)
            assert "does NOT fit" in made.advice
        assert ("does NOT fit" in made.advice) == (made.fits is False)


def test_what_does_not_fit_is_said() -> None:
    made = plan(40_000_000, 1280, "GPU_CAGRA", gpu_gib=24, host_gib=64)
    assert made.fits is False and "does NOT fit" in made.advice and "GPU_IVF_PQ or DISKANN" in made.advice
    assert plan(40_000_000, 1280, "GPU_CAGRA", gpu_gib=400, host_gib=64).fits is True
    assert plan(40_000_000, 1280, "GPU_CAGRA", gpu_gib=400, host_gib=16).fits is False, "metadata lives on the host"


def test_cagra_by_the_measured_figures() -> None:
    """3,328 bytes a vector at 768 numbers and degree 64, as cuVS lays it out; a tenth is put on top."""
    made = plan(1_000_000, 768, "GPU_CAGRA")
    assert made.gpu_memory == pytest.approx(3328e6 * 1.1, rel=1e-6)
    assert "2.6.20" in made.advice and "collection verify" in made.advice


def test_a_gpu_index_without_a_server_is_pointed_out() -> None:
    assert "needs a server" in plan(1000, 768, "GPU_CAGRA").advice
    assert "needs a server" not in plan(1000, 768, "HNSW").advice


@pytest.mark.parametrize(("rows", "dim"), [(0, 768), (-1, 768), (10**12 + 1, 768), (1, 0), (1, 32_769)])
def test_figures_that_make_no_sense(rows: int, dim: int) -> None:
    with pytest.raises(InputError, match="must be between"):
        plan(rows, dim)


def test_unknown_index() -> None:
    with pytest.raises(InputError, match="did you mean 'GPU_CAGRA'"):
        plan(1000, 768, "GPU_CAGRAA")


def test_times_need_a_rate() -> None:
    assert plan(1000, 768, "GPU_CAGRA").embed_hours is None
    assert plan(1000, 768, "GPU_IVF_PQ").build_hours is None
    assert plan(50_000_000, 768, "GPU_CAGRA").build_hours == pytest.approx(0.5, rel=0.05), (
        "a vendor's figure, and said so"
    )
    assert "vendor" in next(f for f in plan(1000, 768, "GPU_CAGRA").formulas if f.figure == "build hours").source
    assert plan(1000, 768, "HNSW").build_hours == pytest.approx(1000 / 2500 / 3600)
    assert plan(1000, 1536, "HNSW").build_hours == pytest.approx(2 * 1000 / 2500 / 3600)


# -- a hundred million rows, and a billion -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "per_vector"),
    [
        ("FLAT", 3072),
        ("HNSW", 3072 + 8 * 32 + 32),
        ("HNSW_SQ", 768 + 8 * 32 + 32),
        ("IVF_RABITQ", 96 + 16 + 768),
        ("DISKANN", 0.225 * 3072 + 16),
        ("AISAQ", 8),
        ("GPU_CAGRA", 3072 + 4 * 32),
        ("GPU_IVF_PQ", 768 + 8),
    ],
)
def test_memory_at_a_hundred_million_rows_by_hand(index: str, per_vector: float) -> None:
    made = plan(100_000_000, 768, index)
    held = made.gpu_memory if PROFILES[index].gpu else made.host_memory - 100_000_000 * ROW_BYTES
    assert held == pytest.approx(100e6 * per_vector * 1.1, rel=1e-6)
    assert made.build_hours is None or made.data_nodes == max(1, math.ceil(made.build_hours / 24))


def test_disk_of_graphs_on_nvme() -> None:
    """A node of 3,072 + 4 x 57 bytes takes a sector of 4 KiB by itself, one of 1,536 + 228 half of one."""
    flat = plan(10**8, 768, "FLAT").disk - 10**8 * 3072
    assert plan(10**8, 768, "DISKANN").disk - flat == 10**8 * 4096
    assert plan(10**8, 384, "DISKANN").disk - (plan(10**8, 384, "FLAT").disk - 10**8 * 1536) == 10**8 * 2048
    assert plan(10**8, 768, "AISAQ").disk - plan(10**8, 768, "DISKANN").disk == 10**8 * 384, "the codes are there too"


@pytest.mark.parametrize("rows", [100_000_000, 1_000_000_000])
def test_large_plans_are_whole(rows: int) -> None:
    made = plan(rows, 384, rate=Rate(400.0, "the ingest of yesterday", gpu=True))
    assert [each.index for each in made.options] == list(OPTIONS)
    for each in made.options:
        capacity = 0.9 * GIB * each.query_nodes
        assert each.host_memory <= capacity * NODE_GIB and each.gpu_memory <= capacity * GPU_GIB
        alone = plan(rows, 384, each.index)
        assert (alone.host_memory, alone.disk, alone.query_nodes) == (each.host_memory, each.disk, each.query_nodes)
    assert made.gpu_hours == made.embed_hours == pytest.approx(rows / 400 / 3600)
    assert (made.rate, made.rate_source) == (400.0, "the ingest of yesterday")
    assert any("mmap" in knob for knob in made.knobs) and any("AISAQ" in knob for knob in made.knobs)
    assert all(formula.formula and formula.source for formula in made.formulas)


def test_hours_of_a_gpu_are_those_of_a_rate_measured_on_one() -> None:
    assert plan(1000, 384, rate=5).gpu_hours is None and plan(1000, 384, rate=5).rate_source == "given"
    assert plan(1000, 384).rate is None
    assert "collection doctor" in plan(1000, 384).formulas[-1].source


@pytest.mark.parametrize("index", list(PROFILES))
def test_every_index_has_a_formula(index: str) -> None:
    assert all(FORMULAS[index]) and PROFILES[index].since


def test_a_plan_sizes_what_create_would_build() -> None:
    """The build parameters are one: the profile's, for these rows and this dimension."""
    for rows, degree in ((LARGE_ROWS - 1, 64), (LARGE_ROWS, 32)):
        built = PROFILES["GPU_CAGRA"].build_params(dim=768, rows=rows)
        assert built["graph_degree"] == degree
        assert plan(rows, 768, "GPU_CAGRA").gpu_memory == int(rows * (3072 + 4 * degree) * 1.1)


def test_a_plan_covers_what_a_directory_really_takes(tmp_path: Path) -> None:
    """Rows of aerial surveys on Milvus Lite, vectors and index files and all; 20,000 x 384 took 69 MB of 86 planned."""
    import million

    million.build(str(tmp_path / "p.db"), "planned", 3000, 384)
    taken = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert taken < plan(3000, 384, "FLAT").disk < 1.6 * taken
