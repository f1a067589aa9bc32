#!/usr/bin/env python3
"""Makes Outcrop's own user in Milvus, with a role that may do what Outcrop does: `docker compose run --rm milvus-user`.

It speaks to the server at OUTCROP_URI as `root` (MILVUS_ROOT_PASSWORD), makes the user MILVUS_USER with MILVUS_USER_PASSWORD, and
a role of the same name. A second run grants what is missing. Passwords are taken from the environment alone, and never shown.
Exit codes as everywhere: 0 done, 3 bad input, 5 server away, 6 refused.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from outcrop.schema.errors import InputError, OutcropError, Refused
from outcrop.schema.settings import Settings
from outcrop.store.connection import Store, is_lite, patiently
from outcrop.store.tls import Tls

# What each request that Outcrop makes asks for, read from Milvus's own interface definition. Changing a collection's properties
# and moving an alias are asked of CreateCollection and CreateAlias there.
PRIVILEGES = {
    "Global": (
        "CreateCollection",
        "DropCollection",
        "DescribeCollection",
        "ShowCollections",
        "CreateAlias",
        "DropAlias",
        "DescribeAlias",
        "ListAliases",
    ),
    "Collection": (
        "CreatePartition",
        "DropPartition",
        "HasPartition",
        "ShowPartitions",
        "CreateIndex",
        "DropIndex",
        "IndexDetail",
        "Load",
        "Release",
        "GetLoadState",
        "GetLoadingProgress",
        "Insert",
        "Upsert",
        "Delete",
        "Query",
        "Search",
        "Flush",
        "GetFlushState",
        "GetStatistics",
        "Compaction",
    ),
}
SETTLING = 20.0
"""Seconds within which a server has told all its parts of a new role."""


def required(name: str) -> str:
    """A variable of the environment that must be there."""
    value = os.environ.get(name, "")
    if not value:
        raise InputError(f"{name} is not set; deploy/init.sh writes it into deploy/.env")
    return value


def connect(settings: Settings, user: str, password: str) -> Store:
    return Store.connect(settings.uri, f"{user}:{password}", settings.timeout, Tls.of(settings))


def as_root(settings: Settings, password: str, wait: float) -> Store:
    """A connection as root, as soon as the server answers."""
    try:
        return patiently(lambda: connect(settings, "root", password), wait, None)
    except Refused:
        raise Refused(
            "Milvus refuses root with MILVUS_ROOT_PASSWORD, which counts at the first start only; a password that was changed "
            "in Milvus later must be written into deploy/.env too"
        ) from None


def make_user(root: Store, settings: Settings, user: str, password: str, renew: bool) -> str:
    """The user, made or found; what was done about it."""
    with root.calling(f"make the user {user}"):
        there = user in root.client.list_users(timeout=root.timeout)
        if there and renew:
            root.client.drop_user(user, timeout=root.timeout)
        if renew or not there:
            root.client.create_user(user, password, timeout=root.timeout)
            return "made anew" if there else "made"
    try:
        connect(settings, user, password).close()
    except Refused:
        raise Refused(
            f"the user {user} has another password than MILVUS_USER_PASSWORD; --renew makes the user anew with this one"
        ) from None
    return "was there"


def make_role(root: Store, role: str) -> int:
    """The role with its privileges, for the user of the same name; how many were granted now."""
    client, timeout = root.client, root.timeout
    with root.calling(f"make the role {role}"):
        if role not in client.list_roles(timeout=timeout):
            client.create_role(role, timeout=timeout)
        said: dict[str, Any] = client.describe_role(role, timeout=timeout) or {}
        have = {str(one.get("privilege")) for one in said.get("privileges", [])}
        missing = [(kind, name) for kind, names in PRIVILEGES.items() for name in names if name not in have]
        for kind, name in missing:
            if root.version is not None and root.version >= (2, 5):
                client.grant_privilege_v2(role, name, "*", "*", timeout=timeout)
            else:
                client.grant_privilege(role, kind, name, "*", timeout=timeout)
        client.grant_role(role, role, timeout=timeout)
    return len(missing)


def check(settings: Settings, user: str, password: str) -> None:
    """The user can look at collections, and cannot see the users."""
    end = time.monotonic() + SETTLING
    with connect(settings, user, password) as store:
        while True:
            try:
                with store.calling(f"list the aliases as {user}"):
                    store.client.list_aliases(timeout=store.timeout)
                break
            except Refused:
                if time.monotonic() > end:
                    raise
            time.sleep(1.0)
        try:
            with store.calling("list the users"):
                store.client.list_users(timeout=store.timeout)
        except OutcropError:
            return
    raise Refused(f"the user {user} can list users: authorizationEnabled is off, or its role has more than this one")


def run(wait: float, renew: bool) -> str:
    """Does all of it, and says what was done."""
    settings = Settings()
    user = os.environ.get("MILVUS_USER", "") or "outcrop"
    password = required("MILVUS_USER_PASSWORD")
    if is_lite(settings.uri):
        raise InputError(f"{settings.uri} is Milvus Lite, which knows no users; set OUTCROP_URI=http://HOST:19530")
    if user == "root" or not 6 <= len(password.encode()) <= 72:
        raise InputError("MILVUS_USER must not be root, and MILVUS_USER_PASSWORD must have 6 to 72 characters")
    with as_root(settings, required("MILVUS_ROOT_PASSWORD"), wait) as root:
        how = make_user(root, settings, user, password, renew)
        granted = make_role(root, user)
    check(settings, user, password)
    return f"user {user} {how}, {granted} privileges granted; it may use collections, not users or settings"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for the server")
    parser.add_argument("--renew", action="store_true", help="make the user anew, with the password that is set now")
    arguments = parser.parse_args()
    try:
        print(run(arguments.wait, arguments.renew))
    except OutcropError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
