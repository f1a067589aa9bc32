"""The renderer egl (OpenGL) draws what raycast draws, here on Mesa's software driver, and gives back the memory it takes."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import meshes
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image
from toy_specimens import LOOK, SPACE, Ingest, shells

from outcrop.embed.crops import prepare
from outcrop.embed.encoder import Encoder
from outcrop.embed.images import Decoded
from outcrop.embed.models import find_model
from outcrop.embed.photo import PhotoMetadata
from outcrop.ingest.listing import look_ahead
from outcrop.render import egl, opengl, painting, targets, workers
from outcrop.render.geometry import Shape, load, normalised
from outcrop.render.painting import Shader
from outcrop.render.raycast import Raycaster
from outcrop.render.surface import Surface, surface_of
from outcrop.render.views import ViewSpec, draw_views
from outcrop.render.workers import Workers, choose_renderer
from outcrop.sample.fossils import make_specimen, specimens
from outcrop.sample.meshfiles import write_mesh
from outcrop.schema.errors import InputError, MeshError
from outcrop.store.collection import Collection
from outcrop.store.connection import Store

Drawn = list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]
RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def driver(request: pytest.FixtureRequest) -> None:
    """Skips where nothing answers through EGL."""
    egl.beside_torch()
    if request.function in (
        test_several_cards_are_taken_round_and_round,
        test_what_is_missing_is_named_with_its_package,
    ):
        return
    try:
        with egl.leased():
            pass
    except InputError as error:
        pytest.skip(str(error))


def shape_of(mesh: tuple[NDArray[np.float64], NDArray[np.int64]], **more: object) -> Shape:
    return Shape("test", mesh[0].astype(np.float32), mesh[1].astype(np.int32), **more)  # type: ignore[arg-type]


def both(shape: Shape, spec: ViewSpec) -> tuple[Drawn, Drawn]:
    """The views as raycast draws them, and as egl does."""
    surface = surface_of(normalised(shape))
    shader = Shader(surface, Raycaster(surface))
    cast = [shader.shade(camera, spec.size) for camera in spec.cameras()]
    return cast, list(opengl.draw(surface, spec.cameras(), spec.size))


def wider(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with all its neighbours."""
    padded = np.pad(mask, 1)
    parts = [padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)]
    return np.logical_or.reduce(parts)


def assert_alike(shape: Shape, spec: ViewSpec) -> None:
    """Silhouettes within a pixel of each other, and shading within two grey levels in the mean, of every view."""
    for (one, mask), (other, drawn) in zip(*both(shape, spec), strict=True):
        assert not (mask & ~wider(drawn)).any() and not (drawn & ~wider(mask)).any()
        assert (mask != drawn).sum() <= max(4, 0.002 * mask.sum())
        assert np.abs(one.astype(int) - other)[mask | drawn].mean() < 2
        assert (other[~(wider(mask) | drawn)] == 255).all()


def bumpy() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    return meshes.ball(4, (1, 0.8, 0.6), bumps=7)


def open_shell() -> Shape:
    vertices, faces = bumpy()
    return shape_of((vertices, faces[(vertices[faces][:, :, 2] < 0.01).all(axis=1)]))


def either_way_round() -> Shape:
    vertices, faces = bumpy()
    faces[::2] = faces[::2, ::-1]
    return shape_of((vertices, faces), colours=RNG.integers(0, 256, vertices.shape, np.uint8))


def textured(**more: object) -> Shape:
    """Two textures of different sizes, and triangles without one."""
    vertices, faces = bumpy()
    blocks = [np.kron(RNG.integers(0, 256, (6, 5, 3)), np.ones((n, n, 1))).astype(np.uint8) for n in (9, 32)]
    uv = (vertices[faces][..., :2] * 1.7).astype(np.float32)  # beyond 0 to 1, on both sides
    number = (np.arange(len(faces)) // 200 % 3 - 1).astype(np.int16)
    return shape_of((vertices, faces), uv=uv, texture_of=number, textures=tuple(blocks), **more)


def soup() -> Shape:
    return shape_of((RNG.normal(size=(60, 3)), RNG.integers(0, 60, (150, 3))))


def cloud() -> Shape:
    points = bumpy()[0]
    return shape_of((points, np.empty((0, 3))), colours=RNG.integers(0, 256, points.shape, np.uint8))


SHAPES = {
    "a mesh": lambda: shape_of(bumpy()),
    "an open shell": open_shell,
    "faces either way round": either_way_round,
    "two textures": textured,
    "textures and colours": lambda: textured(colours=RNG.integers(0, 256, (len(bumpy()[0]), 3), np.uint8)),
    "triangles anywhere": soup,
    "a point cloud": cloud,
    "one triangle": lambda: shape_of((np.array([[0, 0, 0], [1, 0, 0.3], [0, 1, 0.2]]), np.array([[0, 1, 2]]))),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_of_surface_is_drawn_as_raycast_draws_it(name: str) -> None:
    shape = SHAPES[name]()
    assert_alike(shape, ViewSpec(views=3, size=160, layout="sphere", seed=2))
    assert_alike(shape, ViewSpec(views=2, size=33, layout="sphere", seed=2))


def test_files_with_far_coordinates_and_16_bit_textures(tmp_path: Path) -> None:
    vertices, faces = bumpy()
    rows = "".join(f"v {x:.4f} {y:.4f} {z:.4f}\n" for x, y, z in vertices + np.array([471_000, 5_300_000, 400]))
    rows += "".join(f"vt {x:.4f} {y:.4f}\n" for x, y in vertices[:, :2])
    rows += "".join(f"f {a}/{a} {b}/{b} {c}/{c}\n" for a, b, c in faces + 1)
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\nusemtl skin\n{rows}")
    (tmp_path / "a.mtl").write_text("newmtl skin\nmap_Kd a.png\n")
    deep = np.kron(RNG.integers(0, 65536, (8, 8)), np.ones((16, 16))).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    shape = load(tmp_path / "a.obj")
    assert shape.textures and any(shape.offset)
    assert_alike(shape, ViewSpec(views=3, size=160))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every second genus of the fossil world, one of them whole, in colour, as a cloud and broken."""
    folder = tmp_path_factory.mktemp("world")
    chosen = [each for n, each in enumerate(specimens(0, 5)) if n // 5 % 2 == 0][::3]
    for each in chosen:
        (folder / each.path).parent.mkdir(parents=True, exist_ok=True)
        write_mesh(make_specimen(each), folder / each.path, each.form)
    return [folder / each.path for each in chosen]


def test_fossils_of_the_sample_world(world: list[Path]) -> None:
    assert len(world) >= 5
    for path in world:
        assert_alike(load(path), ViewSpec(views=2, size=128))


def test_torch_can_be_imported_after_views_were_drawn() -> None:
    """Mesa's LLVM and that of Triton do not go together in every order."""
    pytest.importorskip("triton")
    code = (
        "import numpy as np; from outcrop.render.views import ViewSpec, draw_views; from outcrop.render.geometry import Shape; "
        "draw_views(Shape('a', np.eye(3, dtype='f4'), np.array([[0, 1, 2]], 'i4')), ViewSpec(1, 32, renderer='egl')); "
        "import triton"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.open(find_model("efficientnet_lite0"))


def vectors(encoder: Encoder, views: NDArray[np.uint8]) -> NDArray[np.float32]:
    pictures = [Image.fromarray(view) for view in views]
    ready = [prepare(Decoded(one, one.width, one.height, PhotoMetadata()), encoder.space) for one in pictures]
    return encoder.encode(np.stack(ready))


def test_real_meshes_and_what_a_model_sees_of_them(shared_sample: Path, encoder: Encoder) -> None:
    folder = shared_sample / "specimens"
    files = [folder / "primate_molars_MIT/a.ply", folder / "femurs_Apache2/femur_target.stl"]
    files += sorted(folder.glob("odedstein/s*/*.obj"))
    for path in files:
        shape, spec = load(path), ViewSpec(views=2, size=224)
        assert_alike(shape, spec)
        cast, drawn = (draw_views(shape, replace(spec, renderer=name)) for name in ("raycast", "egl"))  # type: ignore[arg-type]
        cosines = (vectors(encoder, cast) * vectors(encoder, drawn)).sum(axis=1)
        assert cosines.min() >= 0.995, path.name


def test_a_view_that_shows_nothing_fails_for_the_same_reason() -> None:
    plate = np.array([[0, -1, -1], [0, -1, 1], [0, 1, 1], [0, 1, -1]], float), np.array([[0, 1, 2], [0, 2, 3]])
    reasons = []
    for renderer in ("raycast", "egl"):
        with pytest.raises(MeshError) as caught:
            draw_views(shape_of(plate), ViewSpec(views=4, size=64, renderer=renderer))  # type: ignore[arg-type]
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1] and "flat and seen edge-on" in reasons[0]


def test_small_budgets_give_the_same_pictures_in_more_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, spec = textured(), ViewSpec(views=5, size=64, renderer="egl")
    whole = draw_views(shape, spec)
    assert np.array_equal(draw_views(shape, spec), whole)
    uploads: list[int] = []
    upload = opengl._Drawing._uploaded

    def counted(self: opengl._Drawing, part: opengl._Part) -> opengl._Loaded:
        uploads.append(len(part.triangles))
        return upload(self, part)

    monkeypatch.setattr(opengl._Drawing, "_uploaded", counted)
    monkeypatch.setattr(targets, "VIEW_BYTES", 2 * targets.BYTES_A_PIXEL * 64 * 64)
    monkeypatch.setattr(opengl, "TRIANGLES", 500)
    monkeypatch.setattr(opengl, "MESH_BYTES", 100_000)
    egl._leases.clear()  # the targets that are kept were made for all five views
    # Not the same bytes: corners are rounded to parts of a pixel of the atlas, and that is another one.
    difference = np.abs(draw_views(shape, spec).astype(int) - whole)
    assert (difference.max(axis=-1) > 2).mean() < 0.001
    assert max(uploads) <= 500 and sum(uploads) > 5 * len(shape.faces), "what does not fit is uploaded for each batch"
    egl._leases.clear()


def test_a_texture_that_the_driver_does_not_take_is_made_smaller(caplog: pytest.LogCaptureFixture) -> None:
    wide = RNG.integers(0, 256, (40, 100, 3)).astype(np.uint8)
    assert opengl._within(wide, 100) is wide and not caplog.records
    assert opengl._within(wide, 50).shape == (20, 50, 3)
    assert "a texture of 100 x 40 pixels is drawn at 50 x 20" in caplog.text


def test_one_context_serves_all_and_is_replaced_when_it_is_old_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    surface, spec = surface_of(normalised(shape_of(bumpy()))), ViewSpec(views=2, size=48)

    def serving() -> egl.Lease:
        assert len(list(opengl.draw(surface, spec.cameras(), spec.size))) == 2
        with egl.leased() as lease:
            return lease

    first = serving()
    assert serving() is first
    monkeypatch.setattr(egl, "LIFETIME", first.served)
    second = serving()
    assert second is not first
    monkeypatch.undo()
    with monkeypatch.context() as broken:
        broken.setattr(opengl, "_vertices", lambda *_: 1 / 0)
        with pytest.raises(MeshError, match=r"failed on the graphics card \(division by zero\)"):
            list(opengl.draw(surface, spec.cameras(), spec.size))
    assert serving() not in (first, second)


def test_drawings_in_turn_and_in_threads_do_not_disturb_each_other() -> None:
    surfaces = [surface_of(normalised(shape_of(meshes.ball(3, (1, 1, 0.3 + n / 5), bumps=n)))) for n in range(4)]

    def pictures(number: int) -> Iterator[NDArray[np.uint8]]:
        look = ViewSpec(views=3, size=40 + 8 * (number % 2))
        return (picture for picture, _ in opengl.draw(surfaces[number], look.cameras(), look.size))

    alone = [np.stack(list(pictures(number))) for number in range(4)]
    in_turn = [np.stack(some) for some in zip(*(zip(pictures(0), pictures(1), strict=True)), strict=True)]
    assert np.array_equal(in_turn[0], alone[0]) and np.array_equal(in_turn[1], alone[1])
    with ThreadPoolExecutor(4) as pool:
        for number, drawn in enumerate(pool.map(lambda n: np.stack(list(pictures(n))), [0, 1, 2, 3] * 3)):
            assert np.array_equal(drawn, alone[number % 4])
    unfinished = pictures(2)
    next(unfinished)
    unfinished.close()
    assert np.array_equal(np.stack(list(pictures(2))), alone[2])


def test_corners_that_are_alike_are_one_vertex() -> None:
    def uploaded(shape: Shape) -> tuple[int, int]:
        surface = surface_of(normalised(shape))
        (part,) = opengl._parts(surface)
        rows, numbers = opengl._vertices(surface, part)
        assert np.array_equal(rows["position"][numbers], surface.vertices[surface.faces].reshape(-1, 3))
        assert np.array_equal(rows["normal"][numbers], surface.normals.reshape(-1, 3))
        return len(rows), len(surface.vertices)

    smooth, vertices = uploaded(shape_of(meshes.ball(3)))
    assert smooth == vertices
    corners = np.array([[n >> axis & 1 for axis in range(3)] for n in range(8)], float)
    sides = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array([side[:3] for side in sides] + [[side[0], *side[2:]] for side in sides])
    cube, vertices = uploaded(shape_of((corners, faces)))
    assert vertices == 8 and 24 <= cube < 36, "each side has a normal of its own"


def test_samples_lie_where_rays_go() -> None:
    with egl.leased() as lease, lease.current() as gl:
        several = gl.simple_framebuffer((4, 4), samples=targets.SAMPLES)
        several.use()
        ask, place = ctypes.CDLL("libGL.so.1").glGetMultisamplefv, (ctypes.c_float * 2)()
        found = set()
        for number in range(targets.SAMPLES):
            ask(0x8E50, number, place)  # GL_SAMPLE_POSITION
            found.add((place[0] - 0.5, place[1] - 0.5))
        gl.simple_framebuffer((1, 1)).use()
        several.release()
    assert found == set(painting.OFFSETS)


def test_buffers_for_reading_back_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    surface, spec = surface_of(normalised(shape_of(bumpy()))), ViewSpec(views=6, size=48)
    monkeypatch.setattr(targets, "VIEW_BYTES", 2 * targets.BYTES_A_PIXEL * 48 * 48)
    egl._leases.clear()
    numbers = []
    for _ in range(2):
        assert len(list(opengl.draw(surface, spec.cameras(), spec.size))) == 6
        with egl.leased() as lease:
            numbers.append(sorted(buffer.glo for buffer in lease.kept["targets"].readback._idle))
    assert len(numbers[0]) == 2, "the card draws into one while the other is handed out"
    assert numbers[0] == numbers[1]
    unfinished = opengl.draw(surface, spec.cameras(), spec.size)
    next(unfinished)
    unfinished.close()
    assert sorted(buffer.glo for buffer in lease.kept["targets"].readback._idle) == numbers[0]
    egl._leases.clear()


def test_memory_is_given_back() -> None:
    surface, spec = surface_of(normalised(shape_of(meshes.ball(5)))), ViewSpec(views=3, size=64)

    def some(count: int) -> int:
        for _ in range(count):
            assert len(list(opengl.draw(surface, spec.cameras(), spec.size))) == 3
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    some(2)
    before = some(2)
    assert some(8) - before < 20 * 2**20  # eight surfaces take 40 MB


def test_a_drawing_process_gives_the_same_bytes(tmp_path: Path) -> None:
    path = meshes.write(tmp_path / "a.ply", *bumpy())
    spec = ViewSpec(views=2, size=64, renderer="egl")
    here = draw_views(load(path), spec)
    with Workers(1) as pool:
        for _ in range(2):
            assert np.array_equal(np.stack(list(pool.views(path, spec))), here)


def test_a_drawing_process_without_a_driver_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of every renderer that cannot be opened: it is no specimen's fault."""
    monkeypatch.setenv("GLCONTEXT_DEVICE_INDEX", "99")
    path = meshes.write(tmp_path / "a.ply", *meshes.ball(1))
    with Workers(1) as pool, pytest.raises(InputError, match=r"requested device index 99.*--renderer raycast"):
        list(pool.views(path, ViewSpec(views=1, size=64, renderer="egl")))


def test_specimens_that_raycast_drew_are_not_drawn_again(tmp_path: Path, lite_uri: str) -> None:
    """A machine with a graphics card takes over a collection that was made without one, and the other way round."""
    on_card = replace(LOOK, renderer="egl")
    assert on_card.digest == LOOK.digest and on_card.as_extra() == LOOK.as_extra()
    assert replace(LOOK, renderer="filament").digest != LOOK.digest
    with Store.connect(lite_uri) as store, Workers(1) as pool:
        ingest = Ingest(shells(tmp_path / "shells"), Collection.create(store, "shells", SPACE), pool)
        assert ingest(on_card)[0].embedded == 16
        for look in (LOOK, on_card):
            assert look_ahead(ingest.listing(look), ingest.collection).unchanged == 16
        # Whoever asks needs no graphics card.
        assert ViewSpec.of_extra(ingest.rows()["specimen/shells/scan"][0]) == LOOK


def test_auto_takes_a_graphics_card_and_no_software(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.render.filament.gpu_devices", lambda: ["/dev/nvidia0"])
    monkeypatch.setattr(egl, "_leases", {})
    workers._card_draws.cache_clear()
    with egl.leased() as lease, lease.current():
        name = lease.context.info["GL_RENDERER"].lower()
    software = any(word in name for word in egl.SOFTWARE)
    assert choose_renderer("auto") == ("raycast" if software else "egl")
    monkeypatch.setattr(egl, "SOFTWARE", ())
    monkeypatch.setattr(workers, "SOFTWARE", ())
    workers._card_draws.cache_clear()
    assert choose_renderer("auto") == "egl"
    workers._card_draws.cache_clear()
    monkeypatch.setattr("outcrop.render.filament.gpu_devices", list)
    assert choose_renderer("auto") == "raycast" and choose_renderer("egl") == "egl"


def test_several_cards_are_taken_round_and_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egl, "devices", lambda: ((0, 1, 3), (2,)))
    assert [egl._choice(card)[0] for card in range(5)] == [0, 1, 3, 0, 1]
    assert egl._choice(1) == (1, 3, 0, 2), "software only where no card answers"
    monkeypatch.setattr(egl, "devices", lambda: ((), ()))
    with pytest.raises(InputError, match="EGL knows no device"):
        egl._choice(0)


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    plate = Surface(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.zeros((1, 3, 3), np.float32))
    monkeypatch.setattr(egl, "_leases", {})

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match):
            list(opengl.draw(plate, ViewSpec(views=1).cameras(), 64))

    with monkeypatch.context() as without:
        without.setattr(egl, "devices", lambda: ((), (99,)))
        refused(r"cannot be opened \(.*99.*libegl-mesa0 libgl1-mesa-dri to draw in software")
        without.setitem(sys.modules, "moderngl", None)
        refused("pip install moderngl")
    egl.devices.cache_clear()
    monkeypatch.setattr(egl, "LIBRARIES", {"libEGL_of_nobody.so.1": "libegl1"})
    refused(r"libEGL_of_nobody.so.1 of the package libegl1 is missing\); apt-get install libegl1")
