"""Patch, grid and dense features: from one pass, in every kind, at the right places of the picture, and on disk."""

from __future__ import annotations

import io
import itertools
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from outcrop.embed.backbones import gem
from outcrop.embed.encoder import Encoder
from outcrop.embed.feature_files import FeatureFolder, FeatureRecord, halved
from outcrop.embed.features import FeatureKind, Features
from outcrop.embed.images import Decoded, decode, fit_to
from outcrop.embed.models import find_model, find_preset
from outcrop.embed.photo import PhotoMetadata
from outcrop.embed.placement import Placement
from outcrop.schema.errors import InputError, PictureError, SpaceMismatch
from outcrop.schema.space import Fit, Space

HEADER = 128
"""Bytes of a ``.npy`` before its numbers, for every array of up to five axes."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from more, and beside other busy processes threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def vit(tiny_vit: Path) -> Encoder:
    return Encoder.open(find_model("timm:test_vit", weights=tiny_vit, size=(160, 96)), device="cpu")


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (11, 160, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def made(vit: Encoder, pictures: np.ndarray) -> Features:
    return vit.features(pictures)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# One pass


def test_vectors_are_those_of_encode_and_tokens_lie_in_their_grid(
    vit: Encoder, made: Features, pictures: np.ndarray
) -> None:
    assert np.array_equal(made.vectors, vit.encode(pictures))
    assert made.patches.shape == (11, 10, 6, 64) and made.patches.dtype == np.float32
    alone = vit.features(pictures[3:4])
    assert np.abs(alone.patches[0] - made.patches[3]).max() < 1e-4


def test_one_pass_makes_all_of_them(vit: Encoder, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = vit._network.network.forward_features
    monkeypatch.setattr(
        vit._network.network, "forward_features", lambda planes: seen.append(len(planes)) or forward(planes)
    )
    vit.features(pictures)
    assert sum(seen) == len(pictures)


def test_a_patch_in_one_corner_moves_the_token_of_that_corner_most(vit: Encoder) -> None:
    """Rows run down and columns across."""
    plain = np.full((1, 160, 96, 3), 128, np.uint8)
    marked = plain.copy()
    marked[0, 32:48, 80:96] = (255, 0, 0)
    change = np.linalg.norm(vit.features(marked).patches[0] - vit.features(plain).patches[0], axis=-1)
    assert np.unravel_index(change.argmax(), change.shape) == (2, 5)


@pytest.mark.parametrize(
    ("pooling", "formula"),
    [("avg", lambda t: t.mean((1, 2))), ("gem", lambda t: np.cbrt((np.maximum(t, 1e-6) ** 3).mean((1, 2))))],
)
def test_pooling_of_tokens_instead_of_the_class_token(
    pooling: str, formula: object, tiny_vit: Path, made: Features, pictures: np.ndarray
) -> None:
    encoder = Encoder.open(find_model("timm:test_vit", weights=tiny_vit, size=(160, 96), pooling=pooling), device="cpu")
    assert encoder.space.pooling == pooling
    assert encoder.space.fingerprint != find_model("timm:test_vit", tiny_vit, size=(160, 96)).space.fingerprint
    expected = unit(formula(made.patches.astype(np.float64)))  # type: ignore[operator]
    assert np.abs(encoder.encode(pictures) - expected).max() < 1e-5
    assert np.abs(encoder.features(pictures).vectors - expected).max() < 1e-5


def test_gem_with_power_one_is_the_mean_and_grows_towards_the_maximum() -> None:
    tokens = torch.rand(2, 4, 5, 7, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(gem(tokens, 1.0), tokens.mean((1, 2)), atol=1e-6)
    means = [gem(tokens, power) for power in (1.0, 3.0, 9.0)]
    assert all((low < high).all() for low, high in itertools.pairwise(means))
    assert (means[-1] <= tokens.amax((1, 2)) + 1e-6).all()


@pytest.mark.parametrize("pooling", ["gem", "avg"])
def test_a_convolutional_network_has_tokens_too(pooling: str) -> None:
    encoder = Encoder.open(find_model("efficientnet_lite0", size=(128, 96), pooling=pooling), device="cpu")
    pictures = np.random.default_rng(2).integers(0, 256, (3, 128, 96, 3), dtype=np.uint8)
    made = encoder.features(pictures)
    assert made.patches.shape == (3, 4, 3, 1280)
    assert np.array_equal(made.vectors, encoder.encode(pictures))
    tokens = made.patches.astype(np.float64)
    pooled = tokens.mean((1, 2)) if pooling == "avg" else np.cbrt((np.maximum(tokens, 1e-6) ** 3).mean((1, 2)))
    assert np.abs(made.vectors - unit(pooled)).max() < 1e-5


def test_poolings_that_a_model_has_not(tiny_vit: Path) -> None:
    with pytest.raises(InputError, match=r"pooling 'max': choose token, avg, gem or vlad"):
        find_model("timm:test_vit", tiny_vit, pooling="max")
    with pytest.raises(InputError, match=r"pooling 'vlad' needs a vocabulary"):
        find_model("timm:test_vit", tiny_vit, pooling="vlad")
    with pytest.raises(InputError, match=r"'token': efficientnet_lite0 has no class token; choose avg, gem or vlad"):
        find_model("efficientnet_lite0", pooling="token")


# Kinds


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("global", "global"),
        ("patch", "patch"),
        ("patch:stride=1", "patch"),
        ("patch:stride=2", "patch-stride2"),
        ("patch:random=8", "patch-random8-seed0"),
        (" patch:random=8:seed=7", "patch-random8-seed7"),
        ("grid", "grid4"),
        ("grid:side=7", "grid7"),
        ("dense", "dense8"),
        ("dense:stride=4", "dense4"),
    ],
)
def test_kinds_as_they_are_written(text: str, name: str) -> None:
    assert FeatureKind.parse(text).name == name
    assert FeatureKind.named(name) == FeatureKind.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path", "choose global, patch, grid, dense; did you mean 'patch'"),
        ("patch:side=2", "'side=2' is not an option of patch.*the options are stride=N, random=N, seed=N"),
        ("patch:stride", "'stride' is not an option"),
        ("patch:stride=0", "must be at least 1"),
        ("patch:stride=2:stride=3", "is given twice"),
        ("patch:stride=2:random=3", "stride or random, not both"),
        ("patch:seed=3", "seed without random"),
        ("global:x=1", "the options are none"),
        ("grid:side=-1", "is not an option"),
        ("", "choose global"),
    ],
)
def test_kinds_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FeatureKind.parse(text)


def test_kinds_with_commas_count_once() -> None:
    assert [kind.name for kind in FeatureKind.parse_all("patch,grid,patch:stride=1,grid:side=4")] == ["patch", "grid4"]


SIZE = (160, 96)


def test_subsamples_take_tokens_as_they_are(made: Features) -> None:
    tokens = made.patches
    assert np.array_equal(FeatureKind.parse("patch").make(made, SIZE), tokens)
    assert np.array_equal(FeatureKind.parse("patch:stride=2").make(made, SIZE), tokens[:, ::2, ::2])
    assert np.array_equal(FeatureKind.parse("patch:stride=3").make(made, SIZE), tokens[:, [1, 4, 7]][:, :, [1, 4]])
    chosen = FeatureKind.parse("patch:random=20:seed=3").make(made, SIZE)
    assert chosen.shape == (11, 20, 64)
    assert np.array_equal(chosen, FeatureKind.parse("patch:random=20:seed=3").make(made, SIZE))
    assert not np.array_equal(chosen, FeatureKind.parse("patch:random=20:seed=4").make(made, SIZE))
    assert FeatureKind.parse("patch:random=999").make(made, SIZE).shape == (11, 60, 64)


def test_random_places_are_the_recorded_ones() -> None:
    """They belong to the layout on disk: another version must not choose others."""
    places = FeatureKind.parse("patch:random=6:seed=7").centres((4, 4), (4, 4))
    assert places.tolist() == [[0, 0], [2, 0], [1, 1], [0, 2], [2, 2], [0, 3]]


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
def test_grid_pooling_is_torchs(side: int, made: Features) -> None:
    planes = torch.from_numpy(made.patches).permute(0, 3, 1, 2)
    expected = functional.adaptive_avg_pool2d(planes, side).permute(0, 2, 3, 1).numpy()
    assert np.abs(FeatureKind.parse(f"grid:side={side}").make(made, SIZE) - expected).max() < 1e-5


@pytest.mark.parametrize("stride", [4, 7, 8, 16, 32])
def test_dense_features_are_torchs_bilinear_ones(stride: int, made: Features) -> None:
    planes = torch.from_numpy(made.patches).permute(0, 3, 1, 2)
    shape = (SIZE[0] // stride, SIZE[1] // stride)
    expected = functional.interpolate(planes, size=shape, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    found = FeatureKind.parse(f"dense:stride={stride}").make(made, SIZE)
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize(
    "text", ["global", "patch", "patch:stride=2", "patch:random=9", "grid:side=3", "dense:stride=5"]
)
def test_shapes_and_places_belong_together(text: str, made: Features, vit: Encoder) -> None:
    kind = FeatureKind.parse(text)
    array, centres = kind.make(made, SIZE), kind.centres((10, 6), SIZE)
    assert array.shape[1:] == kind.shape((10, 6), vit.space, 64)
    assert centres.shape == (*array.shape[1:-1], 2)


def test_centres_follow_what_was_taken() -> None:
    """Tokens that hold their own centre: whatever is made of them must hold the centres that are told."""
    rows, columns, size = 12, 8, (192, 128)
    own = FeatureKind.parse("patch").centres((rows, columns), size)
    assert own[0, 0].tolist() == [7.5, 7.5] and own[2, 5].tolist() == [5 * 16 + 7.5, 2 * 16 + 7.5]
    tokens = Features(np.zeros((1, 2), np.float32), own[None].astype(np.float32))
    for text in (
        "patch:stride=2",
        "patch:stride=3",
        "patch:random=17",
        "grid:side=2",
        "grid:side=4",
        "dense:stride=32",
    ):
        kind = FeatureKind.parse(text)
        assert np.abs(kind.make(tokens, size)[0] - kind.centres((rows, columns), size)).max() < 1e-3, text
    inner = FeatureKind.parse("dense:stride=8")  # beyond the outermost centres nothing is extrapolated
    found, told = inner.make(tokens, size)[0], inner.centres((rows, columns), size)
    assert np.abs(found - told)[1:-1, 1:-1].max() < 1e-3
    middle = FeatureKind.parse("global").centres((rows, columns), size)
    assert middle.tolist() == [63.5, 95.5]


# Places in the picture


def spotted(width: int, height: int, x: int, y: int) -> Image.Image:
    image = Image.new("RGB", (width, height), (0, 0, 0))
    image.paste((255, 255, 255), (x - 20, y - 20, x + 21, y + 21))
    return image


@given(
    st.sampled_from(["squash", "crop", "pad"]),
    st.integers(300, 500),
    st.integers(300, 500),
    st.floats(0.42, 0.58),
    st.floats(0.42, 0.58),
    st.booleans(),
)
def test_a_point_of_the_input_is_found_again_in_the_picture(
    fit: Fit, width: int, height: int, x: float, y: float, scaled: bool
) -> None:
    """A bright square is painted into a picture; its middle in the network's input leads back to its middle."""
    spot = round(x * width), round(y * height)
    image = spotted(width, height, *spot)
    if scaled:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95)
        decoded = decode(buffer.getvalue(), name="x", at_least=(48, 64))
    else:
        decoded = Decoded(image, width, height, PhotoMetadata())
    size = (96, 128)
    seen = fit_to(decoded.image, size, fit).astype(float)[..., 0]
    if fit == "pad":
        points = np.stack(np.meshgrid(np.arange(128), np.arange(96)), -1)
        places = Placement.of(decoded, size, fit).to_source(points)
        seen = seen * ((places > 0) & (places < [width - 1, height - 1])).all(-1)  # the padding is white too
    weights = np.where(seen > 40, seen, 0)
    rows, columns = np.nonzero(weights)
    middle = np.average(np.stack([columns, rows], -1), axis=0, weights=weights[rows, columns])
    found = Placement.of(decoded, size, fit).to_source(middle)
    per_pixel = max(width / 128, height / 96)
    assert np.abs(found - spot).max() < 0.35 * per_pixel + 1.0


def test_squash_reaches_from_corner_to_corner() -> None:
    place = Placement.of(Decoded(Image.new("RGB", (1000, 500)), 4000, 2000, PhotoMetadata()), (100, 200), "squash")
    corners = place.to_source(np.array([[-0.5, -0.5], [199.5, 99.5]]))
    assert np.allclose(corners, [[-0.5, -0.5], [3999.5, 1999.5]])


# On disk


@pytest.fixture
def space(vit: Encoder) -> Space:
    return vit.space


def record(id: str, digest: str = "d", **more: object) -> FeatureRecord:
    values = {
        "id": id,
        "key": f"image/a/b/{id}",
        "source": "b.jpg",
        "source_digest": digest,
        "kinds": {"patch": (2, 3, 4)},
        "input": (32, 48),
    }
    return FeatureRecord(**{**values, **more})  # type: ignore[arg-type]


def test_what_is_written_is_read_back_mapped(tmp_path: Path, space: Space) -> None:
    folder = FeatureFolder.below(tmp_path, space)
    array = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float16)
    place = Placement((1.5, 0, 2, 0, 1.25, -3), 400, 300)
    folder.write(record("ab12", placement=place), {"patch": array})
    found = folder.read("ab12", "patch")
    assert isinstance(found, np.memmap) and np.array_equal(found, array) and not found.flags.writeable
    assert folder.record("ab12") == record("ab12", placement=place)
    assert folder.path("patch", "ab12") == tmp_path / space.fingerprint[:8] / "patch/ab/ab12.npy"
    assert folder.path("patch", "ab12").stat().st_size == HEADER + array.nbytes
    assert list(folder.ids()) == ["ab12"]
    assert not list(tmp_path.rglob("*.new"))


def test_kinds_gather_until_the_source_changes(tmp_path: Path, space: Space) -> None:
    folder = FeatureFolder.below(tmp_path, space)
    patch, grid = FeatureKind.parse("patch"), FeatureKind.parse("grid:side=1")
    one = np.ones((2, 3, 4), np.float16)
    folder.write(record("ab12"), {"patch": one})
    assert folder.has("ab12", "d", [patch]) and not folder.has("ab12", "d", [patch, grid])
    folder.write(record("ab12", kinds={"grid1": (1, 1, 4)}), {"grid1": np.ones((1, 1, 4), np.float16)})
    assert folder.has("ab12", "d", [patch, grid])
    assert not folder.has("ab12", "other", [patch])
    folder.write(record("ab12", "other", kinds={"grid1": (1, 1, 4)}), {"grid1": np.zeros((1, 1, 4), np.float16)})
    assert folder.has("ab12", "other", [grid]) and not folder.has("ab12", "other", [patch])
    with pytest.raises(InputError, match=r"no patch features of item ab12 .*\(there are: grid1\)"):
        folder.read("ab12", "patch")


def test_damage_is_noticed(tmp_path: Path, space: Space) -> None:
    folder = FeatureFolder.below(tmp_path, space)
    patch = FeatureKind.parse("patch")
    folder.write(record("ab12"), {"patch": np.ones((2, 3, 4), np.float16)})
    path = folder.path("patch", "ab12")
    whole = path.read_bytes()
    for damaged in (b"", whole[:50], whole[:-4], b"x" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"ab12\.npy (cannot be read|is damaged)"):
            folder.read("ab12", "patch")
    np.save(path, np.ones((3, 3), np.float32))
    with pytest.raises(InputError, match=r"ab12\.npy is damaged"):
        folder.read("ab12", "patch")
    path.unlink()
    assert not folder.has("ab12", "d", [patch])
    meta = next(folder.root.glob("meta/*/*.json"))
    meta.write_text("{")
    assert folder.record("ab12") is None and not folder.has("ab12", "d", [patch])


def test_numbers_that_float16_does_not_hold_are_refused() -> None:
    for bad in (1e6, np.nan, np.inf):
        with pytest.raises(PictureError, match="patch features hold numbers that float16 does not"):
            halved(np.array([1, bad], np.float32), "patch")
    assert halved(np.array([[1.0, 65504.0]], np.float32), "patch").dtype == np.float16


def test_the_folder_says_what_it_holds(tmp_path: Path, space: Space) -> None:
    folder = FeatureFolder.below(tmp_path, space)
    folder.note([FeatureKind.parse("patch"), FeatureKind.parse("grid")], (10, 6), 64)
    folder.note([FeatureKind.parse("patch:random=7")], (10, 6), 64)
    facts = json.loads((folder.root / "features.json").read_text())
    assert facts["format"] == 1 and facts["dtype"] == "float16" and facts["patches"] == [10, 6]
    assert facts["kinds"] == {"patch": [10, 6, 64], "grid4": [4, 4, 64], "patch-random7-seed0": [7, 64]}
    assert Space.model_validate(facts["space"]) == space and facts["fingerprint"] == space.fingerprint
    opened = FeatureFolder.open(folder.root)
    assert opened.space == space and opened.root == folder.root


def test_sizes_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[1] / "docs/features.md").read_text()
    rows = re.findall(r"\| `(\w+)`, (\d+) \| (\d+) x (\d+) x (\d+) \| ([\d,]+) \| (\d+) GiB \|", page)
    assert len(rows) == 3
    for model, side, *shape, size, of_many in rows:
        preset = find_preset(model)
        assert preset.patch is not None
        height, width, dim = map(int, shape)
        assert (height, width, dim) == (int(side) // preset.patch, int(side) // preset.patch, preset.dim)
        exact = HEADER + 2 * height * width * dim
        assert int(size.replace(",", "")) == exact and int(of_many) == round(exact * 100_000 / 2**30)


def test_folders_of_others_and_none(tmp_path: Path, space: Space) -> None:
    with pytest.raises(InputError, match=r"holds no features\.json; give the folder"):
        FeatureFolder.open(tmp_path)
    FeatureFolder(tmp_path, space).note([FeatureKind.parse("patch")], (10, 6), 64)
    other = space.model_copy(update={"fit": "pad"})
    with pytest.raises(SpaceMismatch, match="holds features of a different space"):
        FeatureFolder(tmp_path, other).note([FeatureKind.parse("patch")], (10, 6), 64)
    (tmp_path / "features.json").write_text('{"format": 2, "kinds": {}}')
    with pytest.raises(InputError, match=r"features\.json"):
        FeatureFolder.open(tmp_path)


def test_threads_may_write_at_once(tmp_path: Path, space: Space) -> None:
    folder = FeatureFolder.below(tmp_path, space)
    kinds = [FeatureKind.parse("patch")]

    def write(number: int) -> None:
        for n in range(20):
            folder.note(kinds, (10, 6), 64)
            folder.write(record(f"{n:04x}"), {"patch": np.full((2, 3, 4), number, np.float16)})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(folder.ids())) == 20
    assert all(len(np.unique(folder.read(id, "patch"))) == 1 for id in folder.ids())
