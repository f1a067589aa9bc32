"""A real S3 server on this machine (moto's), with faults on demand: refused, cut short, slow, or away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from waiting import until

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAOUTCROPTEST00000",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-must-not-be-shown",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def why_not() -> str:
    """Why there can be no server; '' where there can."""
    try:
        import flask_cors  # noqa: F401
        import moto  # noqa: F401
        import s3fs  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed"
    return ""


class S3Server:
    """Serves buckets from memory, in threads of this process.

    `refuse`, `cut` and `slow` choose requests by method and path: they are answered with 503, with half their bytes, or late;
    those that `lose` chooses are kept with half their bytes. `asked` counts the requests by method, and `read` has the paths of
    those that read or list.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._faulty, threaded=True)
        self.uri = f"http://127.0.0.1:{self._server.port}"
        self.environment = {**KEYS, "AWS_ENDPOINT_URL": self.uri}
        self._lock = threading.Lock()
        self.mend()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def mend(self) -> None:
        """Ends all faults."""
        never: Callable[[str, str], bool] = lambda method, path: False  # noqa: E731
        self.refuse = self.cut = self.lose = never
        self.slow: Callable[[str, str], float] = lambda method, path: 0.0
        self.asked: dict[str, int] = {}
        self.read: list[str] = []
        self.at_once = self.most_at_once = 0

    def together(self, count: int) -> float:
        """For `slow`: keeps a request until so many have been asked together."""
        until(lambda: self.most_at_once >= count, f"{count} requests at once")
        return 0.0

    def stop(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()

    def _faulty(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._lock:
            self.asked[method] = self.asked.get(method, 0) + 1
            self.read += [path] if method == "GET" else []
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            time.sleep(self.slow(method, path))
            if self.refuse(method, path):
                text = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
                start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
                return [text]
            if self.lose(method, path):
                _halve_body(environ)
            found: Iterable[bytes] = self._app(environ, start)
            return _half(found) if self.cut(method, path) else found
        finally:
            with self._lock:
                self.at_once -= 1


def _half(found: Iterable[bytes]) -> Iterator[bytes]:
    """Half of an answer whose header promises all of it: the connection ends before."""
    whole = b"".join(found)
    yield whole[: len(whole) // 2]


def _halve_body(environ: WSGIEnvironment) -> None:
    import io

    whole = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    half = whole[: len(whole) // 2]
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(half), str(len(half))
    for header in [name for name in environ if "CHECKSUM" in name or "SDK" in name or name == "HTTP_CONTENT_MD5"]:
        del environ[header]


def upload(folder: Path, to: Any) -> int:
    """Copies a folder into a bucket; returns how many files."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        (to / path.relative_to(folder).as_posix()).put(path)
    return len(files)
