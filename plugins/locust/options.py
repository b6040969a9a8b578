"""What a scenario says of Locust, under `load.driver`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from squall.core.options import Options

MAX_USERS = 10_000
MAX_WORKERS = 64


class LocustOptions(Options):
    """How many users publish, and in how many processes."""

    noun: ClassVar[str] = "the driver locust"

    users: Annotated[
        int, Field(ge=1, le=MAX_USERS, description="how many publish at once; each waits for its answer")
    ] = 20
    spawn_rate: Annotated[
        float, Field(gt=0, le=MAX_USERS, description="how many users a second are started, before the load begins")
    ] = 100.0
    workers: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_WORKERS,
            description="processes that the users are shared among; from two on, Locust's master is one more",
        ),
    ] = 1
    web: Annotated[
        bool, Field(description="Locust's own page, on loopback; its address stands in the progress of the run")
    ] = False

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        if self.users < self.workers:
            raise ValueError(f"{self.workers} workers need as many users at least, got {self.users}")
        return self
