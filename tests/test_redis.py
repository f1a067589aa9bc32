"""Answers in a real Redis: the documented keys, replaced at once, gone after their time, and errors in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from milvus_server import free_ports
from redis_server import RedisServer

from outcrop.query.answers import Hit, Query, Result, Results
from outcrop.query.redis_sink import RedisSink
from outcrop.schema.errors import InputError, Refused, StoreUnreachable
from outcrop.schema.item import Item, Kind, image_key

redis = pytest.importorskip("redis")
if shutil.which("redis-server") is None:
    pytest.skip("redis-server is not installed; run deploy/system-packages.sh test", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    started = RedisServer(tmp_path_factory.mktemp("redis"))
    yield started
    started.stop()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.uri, decode_responses=True) as opened:
        opened.flushdb()
        yield opened


def hits(*scores: float, first: int = 0) -> tuple[Hit, ...]:
    return tuple(
        Hit(
            rank, score, Item(image_key("town", "c_100", first + rank), Kind.IMAGE, "town", "c_100", frame=first + rank)
        )
        for rank, score in enumerate(scores, 1)
    )


def answers(*results: Result) -> list[Results]:
    return [Results("outcrop", None, results)]


def test_the_documented_keys(server: RedisServer, client: redis.Redis) -> None:
    name = "photos/가 을.jpg"
    with RedisSink(server.uri) as sink:
        assert (
            sink.write(answers(Result(Query(name), hits(0.9, 0.5)), Result(Query("broken.jpg"), error="cut off"))) == 1
        )
    keys = [image_key("town", "c_100", n) for n in (1, 2)]
    assert client.zrange(f"outcrop:outcrop:hits:{name}", 0, -1, desc=True, withscores=True) == [
        (keys[0], 0.9),
        (keys[1], 0.5),
    ]
    assert client.zrange("outcrop:outcrop:queries", 0, -1) == [name]
    answer = json.loads(client.get(f"outcrop:outcrop:answer:{name}"))
    assert answer["query"] == name and [hit["key"] for hit in answer["hits"]] == keys
    item = client.hgetall(f"outcrop:outcrop:item:{keys[1]}")
    assert item["capture_id"] == "c_100" and item["frame"] == "2" and item["kind"] == "image" and "score" not in item
    assert client.dbsize() == 5 and all(client.ttl(key) == -1 for key in client.scan_iter())


def test_an_answer_replaces_the_former_one(server: RedisServer, client: redis.Redis) -> None:
    client.set("mine", "1")
    with RedisSink(server.uri) as sink:
        sink.write(answers(Result(Query("q"), hits(0.9, 0.5)), Result(Query("other"), hits(0.4))))
        sink.write(answers(Result(Query("q"), hits(0.7, first=5))))
        assert client.zrange("outcrop:outcrop:hits:q", 0, -1) == [image_key("town", "c_100", 6)]
        assert client.zcard("outcrop:outcrop:hits:other") == 1 and client.get("mine") == "1"
        sink.write(answers(Result(Query("q"))))
        assert not client.exists("outcrop:outcrop:hits:q")
        assert json.loads(client.get("outcrop:outcrop:answer:q"))["hits"] == []


def test_what_was_written_vanishes(server: RedisServer, client: redis.Redis) -> None:
    with RedisSink(server.uri, ttl=100) as sink:
        sink.write(answers(Result(Query("q"), hits(0.9, 0.5))))
    keys = list(client.scan_iter())
    assert len(keys) == 5 and all(0 < client.ttl(key) <= 100 for key in keys)


def test_many_queries(server: RedisServer, client: redis.Redis) -> None:
    with RedisSink(server.uri) as sink:
        assert sink.write(answers(*(Result(Query(f"q{n}"), hits(0.5)) for n in range(501)))) == 501
    assert client.zcard("outcrop:outcrop:queries") == 501


def test_errors_in_one_line(server: RedisServer, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(StoreUnreachable, match=f"no answer from redis://127.0.0.1:{port}/0; start Redis"):
        RedisSink(f"redis://:secret@127.0.0.1:{port}/0")
    for wrong in ("http://127.0.0.1", "127.0.0.1:6379", f"redis://:secret@127.0.0.1:{port}/two", "redis://h:port"):
        with pytest.raises(InputError) as caught:
            RedisSink(wrong)
        assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="at least 1 second"):
        RedisSink(server.uri, ttl=0)
    locked = RedisServer(tmp_path, password="right")
    try:
        for password in ("", ":wrong@"):
            with pytest.raises(Refused, match="does not accept the password") as refused:
                RedisSink(locked.uri.replace("//", f"//{password}"))
            assert "wrong" not in str(refused.value)
        with RedisSink(locked.uri.replace("//", "//:right@")) as sink:
            assert sink.write(answers(Result(Query("q"), hits(0.5)))) == 1
    finally:
        locked.stop()
    with pytest.raises(StoreUnreachable, match="no answer"):
        sink.write(answers(Result(Query("q"), hits(0.5))))
