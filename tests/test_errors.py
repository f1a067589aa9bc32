"""The error tree, its exit codes, and that every error of the libraries below becomes one of ours."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from concurrent import futures

import grpc
import pymilvus.exceptions
import pytest
from waiting import LONG

import outcrop.schema.errors
from outcrop.schema.errors import EXIT_CODES, InputError, OutcropError, Refused, StoreUnreachable, nearest
from outcrop.store.connection import translate

CLASSES = {
    name: cls
    for name, cls in vars(outcrop.schema.errors).items()
    if inspect.isclass(cls) and issubclass(cls, OutcropError)
}
DRAWN = re.findall(
    r"^(?P<lines>[ │├└─]*)(?P<name>[A-Z]\w+) +(?P<code>\d)  ", outcrop.schema.errors.__doc__ or "", re.MULTILINE
)
MILVUS = {
    name: cls
    for name, cls in vars(pymilvus.exceptions).items()
    if inspect.isclass(cls) and issubclass(cls, pymilvus.exceptions.MilvusException)
}
URI = "http://127.0.0.1:19530"


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    parents: list[str] = []
    for lines, name, code in DRAWN:
        depth = (len(lines) - 4) // 4  # the tree is indented by four, each level by four more
        parents[depth:] = [name]
        cls = CLASSES[name]
        assert cls.exit_code == int(code), name
        assert cls.__bases__[0] is (Exception if depth == 0 else CLASSES[parents[depth - 1]]), name
    assert {name for _, name, _ in DRAWN} == set(CLASSES)


def test_every_exit_code_is_explained() -> None:
    assert {cls.exit_code for cls in CLASSES.values()} | {0} == set(EXIT_CODES)


def test_every_error_says_what_it_is() -> None:
    assert all(cls.__doc__ for cls in CLASSES.values())


def test_the_nearest_word_is_named() -> None:
    assert nearest("altidude", ["altitude", "rotation"]) == "; did you mean 'altitude'?"
    assert nearest("zzz", ["altitude"]) == ""
    assert nearest("x", []) == ""


@pytest.mark.parametrize("name", sorted(MILVUS))
def test_every_error_of_pymilvus_is_one_of_ours(name: str) -> None:
    error = MILVUS[name](code=1, message="something about\nthe request")
    mapped = translate(error, "look", URI)
    assert isinstance(mapped, OutcropError)
    assert "cannot look: " in str(mapped)
    assert "something about the request" in str(mapped), "one line, and the reason is told"
    assert translate(MILVUS[name](), "look", URI) is not None, "an error without words"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymilvus.exceptions.MilvusUnavailableException(message="server unavailable"), StoreUnreachable),
        (pymilvus.exceptions.ConnectError(message="x"), StoreUnreachable),
        (pymilvus.exceptions.MilvusException(message="Retry run out of 75 times, deadline exceeded"), StoreUnreachable),
        (
            pymilvus.exceptions.MilvusException(message="service not ready[standalone=7]: Initializing"),
            StoreUnreachable,
        ),
        (pymilvus.exceptions.MilvusException(message="node offline[node=-1]: channel not available"), StoreUnreachable),
        (pymilvus.exceptions.MilvusException(message="auth check failure, please check username"), Refused),
        (pymilvus.exceptions.MilvusException(message="PrivilegeSearch: permission deny for u in the default"), Refused),
        (pymilvus.exceptions.ParamError(message="wrong type of argument"), InputError),
        (pymilvus.exceptions.MilvusException(message="cannot parse expression: frame >"), InputError),
        (
            pymilvus.exceptions.MilvusException(
                message='cannot parse expression: source == "unavailable" and, error: line 1:31'
            ),
            InputError,
        ),
        (
            pymilvus.exceptions.MilvusException(
                message='cannot parse expression: dataset == "unauthenticated" and, error: line 1:35'
            ),
            InputError,
        ),
        (ConnectionRefusedError("refused"), StoreUnreachable),
        (TimeoutError("too long"), StoreUnreachable),
        (ValueError("Cannot invoke RPC on closed channel!"), StoreUnreachable),
    ],
)
def test_families(error: Exception, kind: type[OutcropError]) -> None:
    assert type(translate(error, "look", URI)) is kind


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("expression"), AttributeError("unavailable"), OSError(5, "io")]
)
def test_errors_of_our_own_stay_bugs(error: Exception) -> None:
    assert translate(error, "look", URI) is None


@pytest.fixture(scope="module")
def aborting() -> Iterator[grpc.Channel]:
    """A real gRPC server that ends every call with the status it is asked for."""

    class Abort(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            status = grpc.StatusCode[details.method.rpartition("/")[2]]
            return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(status, "a reason"))

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=(Abort(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(0).wait()


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK])
def test_every_grpc_status_is_one_of_ours(aborting: grpc.Channel, status: grpc.StatusCode) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        aborting.unary_unary(f"/test/{status.name}")(b"", timeout=LONG)
    mapped = translate(caught.value, "look", URI)
    expected = {
        "UNAVAILABLE": StoreUnreachable,
        "DEADLINE_EXCEEDED": StoreUnreachable,
        "UNAUTHENTICATED": Refused,
        "PERMISSION_DENIED": Refused,
    }.get(status.name, OutcropError)
    assert type(mapped) is expected
    if expected is not Refused:
        assert "a reason" in str(mapped) and ("OUTCROP_TIMEOUT" in str(mapped)) == (status.name == "DEADLINE_EXCEEDED")
    else:
        assert "OUTCROP_TOKEN" in str(mapped)
