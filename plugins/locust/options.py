"""What a scenario says of Locust, under `load.driver`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from squall.core.options import Options
from squall.core.units import Seconds

MAX_USERS = 10_000
MAX_WORKERS = 64
PORT = 5557


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
            ge=0,
            le=MAX_WORKERS,
            description="processes that the users are shared among; from two on, Locust's master is one more",
        ),
    ] = 1
    join: Annotated[
        int, Field(ge=0, le=MAX_WORKERS, description="workers that join from other machines, by `squall load-worker`")
    ] = 0
    join_within: Annotated[Seconds, Field(gt=0, le=3600, description="how long the run waits for them to come")] = 60.0
    port: Annotated[
        int,
        Field(
            ge=1024,
            le=65534,
            description="of loopback, where they join; at the next one they publish. A tunnel brings both to them",
        ),
    ] = PORT
    web: Annotated[
        bool, Field(description="Locust's own page, on loopback; its address stands in the progress of the run")
    ] = False

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        workers = self.workers + self.join
        if workers == 0:
            raise ValueError("somebody must publish: expected workers, or some that join, got none")
        if self.users < workers:
            raise ValueError(f"{workers} workers need as many users at least, got {self.users}")
        return self
