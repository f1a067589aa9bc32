"""Local aggregation: VLAD by a vocabulary of one's own pictures, whitened vectors, and where the vocabulary lies and travels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import meshes
import numpy as np
import pytest
import torch
from commands import run
from pictures import picture

from outcrop.embed.aggregation import Aggregation, Residuals
from outcrop.embed.encoder import Encoder
from outcrop.embed.features import Features
from outcrop.embed.fitting import OF_VIEWS, Size, fit, fit_projection, principal
from outcrop.embed.models import Model, find_model, resolve, resolve_space
from outcrop.embed.vocabulary import Vocabulary, Words, load, save
from outcrop.schema.errors import InputError, SpaceMismatch, WeightsError
from outcrop.schema.settings import Settings
from outcrop.schema.space import AskedPooling, Space

SPACE = Space(model="m", weights_digest="0", size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1), pooling="token", dim=6)
VLAD = AskedPooling("vlad")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from more, and beside other busy processes threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tokens(count: int, seed: int = 3) -> Features:
    """Features of so many made-up pictures: 3 x 4 tokens of 6 numbers, and vectors."""
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(count, 3, 4, 6)).astype(np.float32) + rng.normal(size=(count, 1, 1, 6)).astype(
        np.float32
    )
    vectors = patches.mean((1, 2))
    return Features(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), patches)


def fitted(seed: int = 3, words: int = 4) -> Vocabulary:
    return fit([tokens(40, seed)], VLAD, SPACE, Size(words, 8))


# Mathematics


def written_out(words: Words, patches: np.ndarray) -> np.ndarray:
    """VLAD token by token, in double precision."""
    sums = np.zeros(words.words.shape)
    for token in patches.reshape(-1, patches.shape[-1]).astype(np.float64):
        reduced = words.axes @ (token / np.linalg.norm(token) - words.mean)
        distances = [np.linalg.norm(reduced - word) for word in words.words]
        nearest = int(np.argmin(distances))
        sums[nearest] += reduced - words.words[nearest]
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    flat = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0).ravel()
    return flat / np.linalg.norm(flat)


def test_vlad_is_the_formula_written_out() -> None:
    made = tokens(5, seed=8)
    words = fitted().words
    assert words is not None
    found = Residuals(words)(torch.from_numpy(made.patches)).numpy()
    assert found.shape == (5, 4 * 6)
    assert np.abs(found - np.stack([written_out(words, one) for one in made.patches])).max() < 1e-5


def test_a_word_that_no_token_is_near_adds_nothing() -> None:
    words = Words(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), np.float32([[1, 0], [0, 1]]))
    found = Residuals(words)(torch.tensor([[[[1.0, 0.2], [1.0, -0.1]]]])).numpy()[0]
    assert np.linalg.norm(found[:2]) == pytest.approx(1, abs=1e-6) and not found[2:].any()


def test_where_a_token_lies_in_the_picture_does_not_matter() -> None:
    made, words = tokens(4).patches, fitted().words
    assert words is not None
    turned = np.ascontiguousarray(np.rot90(made, axes=(1, 2)))
    vlad = Residuals(words)
    assert torch.allclose(vlad(torch.from_numpy(made)), vlad(torch.from_numpy(turned)), atol=1e-5)


@pytest.mark.parametrize(("rows", "width"), [(30, 5), (5, 30)])
def test_principal_axes_are_those_of_the_covariance(rows: int, width: int) -> None:
    data = np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32)
    mean, axes, variances = principal(data, 3)
    expected = np.sort(np.linalg.eigvalsh(np.cov(data.T, bias=True)))[::-1][:3]
    assert np.allclose(variances, expected, rtol=1e-4) and np.allclose(mean, data.mean(0), atol=1e-6)
    assert np.allclose(axes @ axes.T, np.eye(3), atol=1e-5)
    assert np.allclose(((data - mean) @ axes.T).var(0), expected, rtol=1e-4)


def test_whitening_brings_the_spread_of_the_axes_together() -> None:
    rng = np.random.default_rng(2)
    vectors = (rng.normal(size=(400, 6)) * [8, 4, 2, 1, 0.5, 0.25]).astype(np.float32)
    mean, projection = fit_projection(vectors, 6)
    before, after = vectors.std(0), ((vectors - mean) @ projection.T).std(0)
    # A quarter of the way to axes that all vary alike; of views of meshes half of it.
    assert np.allclose(after / after[0], (before / before[0]) ** 0.75, rtol=0.1)
    _, projection = fit_projection(vectors, 6, OF_VIEWS)
    after = ((vectors - mean) @ projection.T).std(0)
    assert np.allclose(after / after[0], (before / before[0]) ** 0.5, rtol=0.1)


def test_the_axes_that_nothing_varies_along_are_left_out() -> None:
    vectors = np.zeros((20, 6), np.float32)
    vectors[:, :2] = np.random.default_rng(1).normal(size=(20, 2))
    assert fit_projection(vectors, 6)[1].shape == (2, 6)


def test_the_same_pictures_and_seed_give_the_same_vocabulary_and_other_ones_another() -> None:
    assert fitted().digest == fitted().digest
    assert len({fitted().digest, fitted(seed=4).digest, fitted(words=5).digest}) == 3


@pytest.mark.parametrize(
    ("made", "size", "message"),
    [
        ([tokens(15)], Size(4, 8), "15 pictures are too few to fit anything to; give at least 16"),
        ([tokens(3)], Size(32, 8), "36 patch tokens are too few for 32 words"),
        ([], Size(4, 8), "0 patch tokens are too few"),
        ([tokens(20)], Size(1, 8), "--words must be between 2 and 1024, got 1"),
        ([tokens(20)], Size(4, 1), "--dim must be between 2 and 4096, got 1"),
    ],
)
def test_what_nothing_can_be_fitted_to(made: list[Features], size: Size, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(made, VLAD, SPACE, size)


def test_pictures_that_are_all_the_same() -> None:
    one = np.tile(np.float32([[1, 0, 0]]), (20, 1))
    with pytest.raises(InputError, match="all have the same vector"):
        fit_projection(one, 2)


# Space and file


def test_the_space_names_the_vocabulary() -> None:
    made, plain = fitted(), AskedPooling("avg")
    space = made.space
    assert (space.pooling, space.dim, space.vocabulary) == ("vlad", 8, made.digest)
    assert str(space).split(", ")[1] == f"vlad:{made.digest[:8]}"
    other = fitted(seed=4).space
    assert space.fingerprint != other.fingerprint and "vocabulary" in space.difference(other)
    changed = replace(made, projection=made.projection * np.float32(1.001))
    assert changed.space.fingerprint != space.fingerprint
    assert Space.model_validate_json(space.model_dump_json()) == space
    assert AskedPooling.parse("vlad").means(space) and AskedPooling.parse(f"vlad:{made.digest[:5]}").means(space)
    assert not AskedPooling.parse(f"vlad:{other.vocabulary}").means(space) and not plain.means(space)
    assert plain.means(SPACE.model_copy(update={"pooling": "avg"}))


def test_spaces_without_a_vocabulary_keep_their_fingerprint() -> None:
    """As of the version before there were any."""
    space = SPACE.model_copy(update={"pooling": "avg", "dim": 8})
    assert space.fingerprint == "eb9c45c89498c16c628c9e2b9b7a9ceb"
    assert "vocabulary" not in space.model_dump_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max", "pooling 'max': choose token, avg, gem or vlad"),
        ("vlat", "did you mean 'vlad'"),
        ("vlad:xyz", "must be the first digits of a vocabulary"),
        ("avg:", "must be the first digits of a vocabulary"),
    ],
)
def test_poolings_that_are_not_asked_for_rightly(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AskedPooling.parse(text)
    with pytest.raises(ValueError, match=message):
        Settings(pooling=text)


def test_a_vocabulary_comes_back_from_its_file(tmp_path: Path) -> None:
    for made in (fitted(), fit([tokens(40)], AskedPooling("token"), SPACE, Size(4, 5))):
        path = save(made, tmp_path / "vocabularies")
        found = load(path)
        assert path.stem == made.digest == found.digest and found.samples == 40
        assert found.space == made.space and (found.words is None) == (made.words is None)


@pytest.mark.parametrize("damage", ["cut", "other", "renamed", "text", "gone"])
def test_a_damaged_vocabulary_is_refused(damage: str, tmp_path: Path) -> None:
    path = save(fitted(), tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "other":
        shutil.copy(save(fitted(seed=4), tmp_path), path)
    elif damage == "renamed":
        path = path.rename(tmp_path / "vocabulary.npz")
    elif damage == "text":
        path.write_text("words")
    else:
        path.unlink()
    with pytest.raises(WeightsError, match=r"no vocabulary at|is not a readable vocabulary|its digest is"):
        load(path)


# The encoder


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (24, 160, 96, 3), dtype=np.uint8)


def plain_model(network: str, tiny_vit: Path, pooling: str | None = None) -> Model:
    if network == "vit":
        return find_model("timm:test_vit", weights=tiny_vit, size=(160, 96), pooling=pooling)
    return find_model("efficientnet_lite0", size=(160, 96), pooling=pooling)


@pytest.mark.parametrize("network", ["vit", "efficientnet"])
@pytest.mark.parametrize("pooling", ["vlad", "avg", "gem"])
def test_an_encoder_makes_what_the_vocabulary_says(
    network: str, pooling: str, tiny_vit: Path, noise: np.ndarray, tmp_path: Path
) -> None:
    """Of the class token and patches of a transformer, and of the last map of a convolutional network."""
    model = plain_model(network, tiny_vit, None if pooling == "vlad" else pooling)
    plain = Encoder.open(model, device="cpu").features(noise)
    made = fit([plain], AskedPooling.parse(pooling), model.space, Size(4, 12))
    settings = Settings(state=tmp_path, registry=tmp_path / "absent.json", weights=model.weights)
    save(made, settings.vocabularies_folder)
    found = resolve_space(made.space, settings)
    encoder = Encoder.open(found, device="cpu")
    assert encoder.space == made.space and encoder.space.dim == 12
    if pooling == "vlad":
        assert made.words is not None
        start = np.stack([written_out(made.words, one) for one in plain.patches])
    else:
        start = plain.vectors.astype(np.float64)
    projected = (start - made.mean) @ made.projection.T
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    assert np.abs(encoder.encode(noise) - expected).max() < 1e-3
    features = encoder.features(noise)
    assert np.abs(features.vectors - expected).max() < 1e-3 and features.patches.shape == plain.patches.shape


def test_class_tokens_are_whitened_too(tiny_vit: Path, noise: np.ndarray) -> None:
    model = plain_model("vit", tiny_vit)
    vectors = Encoder.open(model, device="cpu").features(noise)
    made = fit([vectors], AskedPooling("token"), model.space, Size(4, 10))
    projected = Aggregation(made)(torch.from_numpy(vectors.vectors)).numpy()
    assert projected.shape == (24, 10) and np.abs(projected.mean(0)).max() < 1e-5


def test_half_precision_leaves_the_vocabulary_exact(tiny_vit: Path, noise: np.ndarray, tmp_path: Path) -> None:
    model = plain_model("vit", tiny_vit)
    made = fit([Encoder.open(model, device="cpu").features(noise)], VLAD, model.space, Size(4, 12))
    found = Model(model.preset, model.weights, made.space, save(made, tmp_path))
    half = Encoder.open(found, device="cpu", precision="bf16")
    aggregation = half._network.aggregation
    assert aggregation is not None
    assert {buffer.dtype for buffer in aggregation.buffers()} == {torch.float32}
    cosines = (half.encode(noise) * Encoder.open(found, device="cpu", precision="fp32").encode(noise)).sum(1)
    assert np.median(cosines) > 0.98  # a token between two words may go to the other one


def test_which_vocabulary_is_meant(tiny_vit: Path, noise: np.ndarray, tmp_path: Path) -> None:
    model = plain_model("vit", tiny_vit)
    plain = Encoder.open(model, device="cpu").features(noise)
    one, other = (fit([plain], VLAD, model.space, Size(words, 12)) for words in (4, 5))
    elsewhere = replace(one, base=one.base.model_copy(update={"size": (96, 96)}))
    settings = Settings(
        state=tmp_path, registry=tmp_path / "absent.json", model="timm:test_vit", weights=tiny_vit, pooling="vlad"
    )
    with pytest.raises(InputError, match=r"holds no such vocabulary for timm:test_vit.*ingest vocabulary"):
        resolve(settings, size=(160, 96))
    for each in (one, elsewhere):
        save(each, settings.vocabularies_folder)
    assert resolve(settings, size=(160, 96)).space == one.space
    with pytest.raises(
        InputError, match=r"for timm:test_vit\.r160_in1k at 160x96 \(pad\); with --fit crop there is one$"
    ):
        resolve(settings, size=(160, 96), fit="pad")
    save(other, settings.vocabularies_folder)
    with pytest.raises(InputError, match=rf"holds 2 vocabularies .*vlad:{one.digest[:8]}"):
        resolve(settings, size=(160, 96))
    named = settings.model_copy(update={"pooling": f"vlad:{other.digest[:8]}"})
    assert resolve(named, size=(160, 96)).space == other.space
    assert resolve(settings, other.space).space == other.space  # a collection's own, though there are others
    with pytest.raises(SpaceMismatch, match=rf"pooled by vlad:{other.digest[:8]}, not vlad:{one.digest[:8]}"):
        resolve(settings.model_copy(update={"pooling": f"vlad:{one.digest[:8]}"}), other.space)


# Commands


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of six photographs, of each of which few samples are taken."""
    monkeypatch.setattr("outcrop.ingest.vocabulary.SAMPLES", 48)
    for number in range(6):
        (tmp_path / "site").mkdir(exist_ok=True)
        picture(number).save(tmp_path / f"site/DJI_{number:04}.jpg")
    return tmp_path / "site"


FIRST = ("--model", "efficientnet_lite0", "--input-size", 64, "--quiet")


def test_from_photographs_to_answers(site: Path) -> None:
    """Once fitted, a collection is made with it, and queries need no option."""
    made = run("ingest", "vocabulary", site, *FIRST, "--words", 4, "--dim", 16, "--json").json
    assert (made["files"], made["failed"], made["samples"], made["dim"], made["words"]) == (6, 0, 48, 16, 4)
    assert Path(made["file"]) == Path(".outcrop/vocabularies") / f"{made['vocabulary']}.npz"
    again = run("ingest", "vocabulary", site, *FIRST, "--words", 4, "--dim", 16, "--json").json
    assert again["vocabulary"] == made["vocabulary"]
    assert run("ingest", "images", site, *FIRST, "--pooling", made["pooling"], "--json").json["embedded"] == 6
    answer = run("query", "image", site / "DJI_0003.jpg", "-k", 1, "--json").json
    (hit,) = answer["queries"][0]["hits"]
    assert hit["key"].endswith("/0003") and hit["score"] == pytest.approx(1, abs=1e-4)
    assert run("ingest", "images", site, "--quiet", "--json").json["unchanged"] == 6
    facts = run("collection", "describe", "outcrop", "--json").json
    assert facts["space"]["vocabulary"] == made["vocabulary"] and facts["space"]["pooling"] == "vlad"
    refused = run("ingest", "images", site, "--pooling", "avg", "--quiet").error(6)
    assert f"pooled by {made['pooling']}, not avg" in refused


def test_vectors_that_are_only_whitened_and_another_collection_of_the_same_vocabulary(site: Path) -> None:
    made = run("ingest", "vocabulary", site, *FIRST, "--pooling", "gem", "--dim", 16, "--json").json
    assert made["words"] == 0 and made["pooling"].startswith("gem:")
    for name in ("one", "two"):
        assert run("collection", "create", name, *FIRST, "--pooling", made["pooling"]).code == 0
    assert run("ingest", "images", site, "--collection", "two", "--quiet", "--json").json["embedded"] == 6
    plain = run("ingest", "images", site, *FIRST, "--pooling", "gem", "--collection", "plain", "--json").json
    assert plain["embedded"] == 6  # gem alone stays gem
    assert run("collection", "describe", "plain", "--json").json["space"].get("vocabulary") is None
    # The collection's own model and size, and the name of a dataset that it knows.
    own = run(
        "ingest", "vocabulary", "site", "--collection", "plain", "--dim", 8, "--words", 4, "--quiet", "--json"
    ).json
    assert (own["model"], own["files"], own["dim"]) == ("efficientnet_lite0", 6, 8)


def test_a_pooling_without_its_vocabulary(site: Path) -> None:
    said = run("ingest", "images", site, *FIRST, "--pooling", "vlad").error(3)
    assert "holds no such vocabulary for efficientnet_lite0 at 64x64" in said and "ingest vocabulary" in said
    made = run("ingest", "vocabulary", site, *FIRST, "--words", 4, "--dim", 8, "--json").json
    assert run("ingest", "images", site, *FIRST, "--pooling", "vlad").code == 0
    Path(made["file"]).rename("kept.npz")
    said = run("query", "image", site / "DJI_0001.jpg").error(3)
    assert f"copy {made['vocabulary']}.npz there" in said


def test_what_cannot_be_read_is_named(site: Path, tmp_path: Path) -> None:
    (site / "DJI_0002.jpg").write_bytes(b"no photograph")
    made = run("ingest", "vocabulary", site, *FIRST, "--words", 4, "--dim", 8, "--json")
    assert (made.json["files"], made.json["failed"]) == (6, 1) and "DJI_0002.jpg" in made.err
    (tmp_path / "empty").mkdir()
    assert "empty" in run("ingest", "vocabulary", tmp_path / "empty", *FIRST).error(3)
    assert "registry" in run("ingest", "vocabulary", "nowhere", *FIRST).error(3)


def test_it_travels_with_exports(site: Path, tmp_path: Path) -> None:
    made = run("ingest", "vocabulary", site, *FIRST, "--words", 4, "--dim", 8, "--json").json
    assert run("ingest", "images", site, *FIRST, "--pooling", "vlad").code == 0
    name = f"{made['vocabulary']}.npz"
    for file in ("out/a.parquet", "out/b.npy"):
        Path("out").mkdir(exist_ok=True)
        assert run("collection", "export", "outcrop", file, "--quiet").code == 0
        assert (Path("out") / name).read_bytes() == Path(made["file"]).read_bytes()
        elsewhere = ("--uri", f"{file}.db", "--state", f"{file}.state")
        assert run("collection", "import", file, "--to", "there", *elsewhere, "--quiet").code == 0
        found = run("query", "image", site / "DJI_0001.jpg", "--collection", "there", *elsewhere, "--json").json
        assert found["queries"][0]["hits"][0]["key"].endswith("/0001")
        (Path("out") / name).unlink()
        refused = run("collection", "import", file, "--to", "x", "--uri", "new.db", "--state", "new", "--quiet").error(
            3
        )
        assert f"put {name} there" in refused and not Path("new.db").exists()
    run("collection", "export", "outcrop", "out/c.csv", "--quiet")
    assert not (Path("out") / name).exists()  # a table without vectors
    Path(made["file"]).rename("kept.npz")
    warned = run("collection", "export", "outcrop", "out/d.parquet")
    assert warned.code == 0 and f"copy {name} there" in warned.err
    warned = run("collection", "copy", "outcrop", "--to", "other")
    assert warned.code == 0 and f"copy {name} there" in warned.err


def test_it_is_fitted_to_views_of_meshes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        meshes.write(tmp_path / f"shells/ball{number}.ply", *meshes.ball(1 + number % 2))
    made = run("ingest", "vocabulary", "shells", *FIRST, "--pooling", "avg", "--dim", 8, "--json").json
    assert (made["files"], made["samples"]) == (3, 36)
    said = run("ingest", "specimens", "shells", *FIRST, "--pooling", made["pooling"], "--views", 2, "--json")
    assert said.json["embedded"] == 9, said.err
    monkeypatch.setattr("outcrop.embed.fitting.OF_VIEWS", 0.0)
    turned = run("ingest", "vocabulary", "shells", *FIRST, "--pooling", "avg", "--dim", 8, "--json").json
    norms = [np.linalg.norm(load(Path(one["file"])).projection, axis=1) for one in (made, turned)]
    assert norms[0][0] == pytest.approx(1, abs=1e-4) and norms[0][-1] > 1.5 and np.allclose(norms[1], 1, atol=1e-4)
