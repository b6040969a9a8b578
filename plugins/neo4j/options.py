"""Which Neo4j, and how much waits for it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from squall.core.options import Options
from squall.core.secret import Secret
from squall.core.units import Seconds


class Neo4jUrl(Secret):
    """A URL of a Neo4j server, or where it is written."""

    directly: ClassVar[str] = r"(bolt|neo4j)(\+s|\+ssc)?://.+"
    expected: ClassVar[str] = "bolt:// or neo4j://, or env:NAME or file:PATH where it is written"


class Neo4jOptions(Options):
    """The neo4j plugin's section of squall.yaml."""

    noun: ClassVar[str] = "neo4j"

    url: Annotated[
        Neo4jUrl,
        Field(
            description="`bolt://` or `neo4j://` (a cluster), with `+s` for TLS; `env:NAME` or `file:PATH` says where "
            "it is written",
        ),
    ] = Neo4jUrl("bolt://localhost:7687")
    user: Annotated[str, Field(min_length=1, description="whom to log in as, where there is a password")] = "neo4j"
    password: Annotated[
        Secret | None,
        Field(
            description="where the password is written, `env:NAME` or `file:PATH`; none for a server without logins",
        ),
    ] = None
    database: Annotated[
        str | None, Field(min_length=1, description="the database's name; none: the one that the server calls home")
    ] = None
    router: Annotated[
        str | None,
        Field(min_length=1, max_length=256, description="what this router is called in the graph; none: its host"),
    ] = None
    required: Annotated[
        bool,
        Field(description="a router does not start before it has logged in; otherwise it starts, and catches up"),
    ] = False
    flush: Annotated[Seconds, Field(ge=0.01, le=3600, description="how often what was counted is written")] = 1.0
    audit_window: Annotated[
        Seconds, Field(ge=1, description="publishes of one source and topic are one audit row for so long")
    ] = 3600.0
    max_waiting: Annotated[
        int,
        Field(
            ge=100,
            le=1_000_000,
            description="while the server is gone, so many audit rows wait (then the oldest are dropped, and counted), "
            "and so many flows are told apart",
        ),
    ] = 10_000
    timeout: Annotated[
        Seconds,
        Field(ge=0.1, le=300, description="how long one transaction, or the last one of a router that stops, may take"),
    ] = 10.0
