"""Questions that a running `query serve` answers: no model is opened, no collection, and hardly anything is imported.

A service that runs beside (same state folder) leaves its address in ``serve.json``, and is found by it.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from outcrop.schema.errors import InputError, Refused, StoreUnreachable

NOTE = "serve.json"
"""Where a service notes its address, in the state folder."""
ADDRESS_SECONDS = 300.0
"""For one answer: the service may have a queue."""

Shape = Literal["json", "table", "csv"]


@dataclass(frozen=True)
class Service:
    """A running service: its address, such as ``http://127.0.0.1:8421``, and the token that it asks for ('' = none)."""

    address: str
    token: str = ""

    def ask(self, picture: Path, fields: Mapping[str, Sequence[str]], shape: Shape) -> dict[str, Any]:
        """The answer to a picture, as plain values of a shape.

        Raises:
            InputError: the picture or a field is wrong. Refused: the token is. StoreUnreachable: nobody answers, or too many ask.
        """
        try:
            data = picture.read_bytes()
        except OSError as error:
            raise InputError(f"{picture} cannot be read: {error.strerror or error}") from None
        kind, body = _multipart(picture.name, data, {**fields, "shape": [shape]})
        return self._fetched("api/search", body, {"content-type": kind})

    def _fetched(self, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        token = {"authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(f"{self.address.rstrip('/')}/{path}", body, {**headers, **token})
        try:
            # No proxy: the service is on this machine, or is named by its own address.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=ADDRESS_SECONDS) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise _refusal(error, self.address) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise StoreUnreachable(f"no service answers at {self.address} ({reason}); start `query serve`") from None
        return found


def _refusal(error: urllib.error.HTTPError, address: str) -> Exception:
    """What the status of an answer means here."""
    try:
        text = error.read(1 << 16).decode("utf-8", "replace")
        said = json.loads(text)["error"] if text.startswith("{") else text.strip()
    except (OSError, ValueError, KeyError, TypeError):
        said = error.reason
    if error.code in (401, 403):
        return Refused(f"{address}: {said}; set OUTCROP_SERVE_TOKEN to the service's token")
    if error.code in (502, 503):
        return StoreUnreachable(f"{address}: {said}")
    return InputError(str(said) if error.code in (400, 409, 413) else f"{address} answers {error.code}: {said}")


def _multipart(name: str, data: bytes, fields: Mapping[str, Sequence[str]]) -> tuple[str, bytes]:
    """Content type and body of a form with a picture (RFC 7578)."""
    edge = secrets.token_hex(16)
    safe = (
        name.encode("utf-8", "replace")
        .decode()
        .replace("\\", "_")
        .replace('"', "%22")
        .replace("\r", "")
        .replace("\n", "")
    )
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode("utf-8", "replace")
        for field, values in fields.items()
        for value in values
    ]
    head = f'--{edge}\r\nContent-Disposition: form-data; name="picture"; filename="{safe}"\r\n\r\n'.encode()
    return f"multipart/form-data; boundary={edge}", b"".join([*parts, head, data, f"\r\n--{edge}--\r\n".encode()])


def note(state: Path, address: str, uri: str, collection: str) -> None:
    """Leaves a service's address in a state folder, readable for its owner alone.

    Raises:
        InputError: it cannot be written.
    """
    from outcrop.schema.files import whole_file

    values = {"address": address, "pid": os.getpid(), "uri": _absolute(uri), "collection": collection}
    with whole_file(state / NOTE, durable=False, parents=True) as file:
        file.touch(0o600)
        file.write_text(json.dumps(values), encoding="utf-8")


def forget(state: Path) -> None:
    """Removes the note of a service that ends."""
    (state / NOTE).unlink(missing_ok=True)


def noted(state: Path, uri: str, collection: str) -> str | None:
    """The address of a service that runs beside and has this collection open; None where there is none."""
    try:
        values = json.loads((state / NOTE).read_text(encoding="utf-8"))
        address, pid, of = values["address"], values["pid"], (values["uri"], values["collection"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    local = isinstance(address, str) and address.startswith(("http://127.0.0.1:", "http://localhost:", "http://[::1]:"))
    return address if local and of == (_absolute(uri), collection) else None


def _absolute(uri: str) -> str:
    """An address of Milvus that means the same from every folder."""
    return uri if "://" in uri else str(Path(uri).absolute())
