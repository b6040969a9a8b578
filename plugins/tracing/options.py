"""How much is traced, what is kept all the same, and where spans go."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from squall.core.options import GivenPath, Options
from squall.core.units import Ratio, Seconds

Reason = Literal["failed", "retried", "dead_lettered", "slowest"]
REASONS: tuple[Reason, ...] = ("failed", "retried", "dead_lettered", "slowest")


class TracingOptions(Options):
    """The tracing plugin's section of squall.yaml."""

    noun: ClassVar[str] = "tracing"

    sample: Annotated[
        Ratio, Field(description="share of events that are traced from their publish on, chosen by their ids")
    ] = 0.01
    keep: Annotated[
        tuple[Reason, ...],
        Field(strict=False, description="deliveries that are traced though their event was not chosen"),
    ] = REASONS
    slowest: Annotated[
        int, Field(ge=1, le=1000, description="so many of the slowest deliveries, of each subscription and window")
    ] = 10
    window: Annotated[Seconds, Field(ge=0.1, le=3600, description="for how long the slowest are gathered")] = 10.0
    otlp: Annotated[
        str | None,
        Field(
            pattern=r"^https?://.+$",
            description="an OTLP receiver's URL, its path too: `http://localhost:4318/v1/traces`",
        ),
    ] = None
    file: Annotated[
        GivenPath | None, Field(description="a file that gets spans as lines of OTLP's JSON, added at its end")
    ] = None
    folder: Annotated[
        GivenPath | None,
        Field(
            description="a folder that gets spans as Parquet files; in a run of the bench it is `spans` in the run's "
            "folder"
        ),
    ] = None
    service: Annotated[
        str, Field(min_length=1, max_length=256, description="what this process is called in traces")
    ] = "squall"
    flush: Annotated[Seconds, Field(ge=0.01, le=60, description="how often spans are made and handed on")] = 1.0
    max_waiting: Annotated[
        int,
        Field(
            ge=100,
            le=1_000_000,
            description="so many notes of what happened wait, and twice as many spans for each exporter; what comes "
            "then is dropped, and counted",
        ),
    ] = 50_000
    timeout: Annotated[
        Seconds,
        Field(ge=0.1, le=300, description="how long one export, or the last ones of a router that stops, may take"),
    ] = 5.0
