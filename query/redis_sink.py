"""Answers into Redis, for services that read them there (the optional extra ``redis``).

Keys, with the collection's name C and a query's name Q (a picture's path, or an item's key):

=======================  ===========  ==============================================================================
``outcrop:C:queries``    sorted set   the queries' names, by the time at which they were answered (seconds since 1970)
``outcrop:C:hits:Q``     sorted set   the hits' keys, by score
``outcrop:C:answer:Q``   string       the query's part of what ``--json`` prints
``outcrop:C:item:K``     hash         the fields of the hit with key K, as in the answer, without rank and score
=======================  ===========  ==============================================================================

An answer replaces the former one of the same query at once (queries are sent in transactions); other keys are left alone.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from outcrop.query.answers import Results, result_json
from outcrop.schema.errors import InputError, Refused, StoreUnreachable

if TYPE_CHECKING:
    from redis import Redis

AT_ONCE = 200
"""Queries sent in one round trip."""
PREFIX = "outcrop"


class RedisSink:
    """One connection. `ttl` seconds after which what was written vanishes; None = never. Use it as a context manager."""

    def __init__(self, uri: str, ttl: int | None = None, timeout: float = 10.0) -> None:
        """Connects, so that an unreachable Redis is found out before any work is done.

        Raises:
            InputError: no such address, or the package is not installed.
            StoreUnreachable: there is no answer. Refused: the password is not accepted.
        """
        if ttl is not None and ttl < 1:
            raise InputError(f"--redis-ttl must be at least 1 second, got {ttl}")
        try:
            import redis
        except ImportError:
            raise InputError("--redis needs the package redis; install it with pip install 'outcrop[redis]'") from None
        parts = urlsplit(uri)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise InputError("--redis must be redis://HOST:PORT/DATABASE, rediss://… or unix://PATH")
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdigit():
            raise InputError(f"--redis {self._shown}: the database must be a number, such as redis://HOST:6379/0")
        self._ttl = ttl
        try:
            self._client: Redis = redis.Redis.from_url(
                uri,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                decode_responses=True,
                encoding_errors="backslashreplace",
            )
        except ValueError:
            raise InputError(
                f"--redis {self._shown} is not a Redis address; write redis://HOST:PORT/DATABASE"
            ) from None
        with self._calling():
            self._client.ping()

    def __enter__(self) -> RedisSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def write(self, batches: Sequence[Results]) -> int:
        """Writes the answers of one or several calls; returns how many queries. Queries that failed are left out."""
        answered = [(batch.collection, result) for batch in batches for result in batch.results if not result.error]
        now = time.time()
        for start in range(0, len(answered), AT_ONCE):
            with self._calling(), self._client.pipeline(transaction=True) as pipe:
                for collection, result in answered[start : start + AT_ONCE]:
                    self._queue(pipe, f"{PREFIX}:{collection}", result_json(result), now)
                pipe.execute()
        return len(answered)

    def _queue(self, pipe: Any, prefix: str, answer: dict[str, Any], now: float) -> None:
        name = answer["query"]
        hits, text, queries = f"{prefix}:hits:{name}", f"{prefix}:answer:{name}", f"{prefix}:queries"
        pipe.delete(hits)
        if answer["hits"]:
            pipe.zadd(hits, {hit["key"]: hit["score"] for hit in answer["hits"]})
        pipe.set(text, json.dumps(answer, ensure_ascii=False))
        pipe.zadd(queries, {name: now})
        written = [hits, text]
        for hit in answer["hits"]:
            item = f"{prefix}:item:{hit['key']}"
            facts = {n: v for n, v in hit.items() if n not in ("rank", "score") and isinstance(v, (str, int, float))}
            pipe.delete(item)
            pipe.hset(item, mapping=facts)
            written.append(item)
        if self._ttl is not None:
            for key in written:
                pipe.expire(key, self._ttl)
            pipe.zremrangebyscore(queries, "-inf", now - self._ttl)
            pipe.expire(queries, self._ttl)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[None]:
        """Maps Redis's errors onto ours; the address is shown without its password."""
        import redis

        try:
            yield
        except redis.AuthenticationError:
            raise Refused(f"{self._shown} does not accept the password; write redis://:PASSWORD@HOST:PORT") from None
        except (redis.ConnectionError, redis.TimeoutError):
            raise StoreUnreachable(f"no answer from {self._shown}; start Redis, or give another --redis") from None
        except redis.RedisError as error:
            raise StoreUnreachable(f"{self._shown} says: {str(error)[:200]}") from None
