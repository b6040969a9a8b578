"""Who sends what to whom: the event flow in Neo4j, with subscriptions and an audit trail."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import ClassVar

from squall.core.delivery import Observer
from squall.core.errors import ServerError, WiringError
from squall.core.identity import system_id
from squall.core.plugin import Context, Plugin, hookimpl
from squall.plugins.neo4j.batches import at
from squall.plugins.neo4j.observing import FlowObserver
from squall.plugins.neo4j.options import Neo4jOptions


class Neo4jPlugin(Plugin):
    """Counts flows and notes what is done with subscriptions; whether the graph can be written is of no consequence
    for events."""

    summary: ClassVar[str] = "observer: subscriptions, audit trail, who sends what to whom, in Neo4j (squall[neo4j])"
    Options = Neo4jOptions
    options: Neo4jOptions

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        self._router_id = system_id()
        options = self.options
        self._observer = FlowObserver(self._router_id, ctx.clock.time_ns, options.max_waiting, options.audit_window)
        return self._observer

    @hookimpl
    async def squall_startup(self, ctx: Context) -> None:
        try:  # only here, so that the plugin can be listed and its options checked without the extra
            from squall.plugins.neo4j.graph import Graph, GraphError, Who
            from squall.plugins.neo4j.writer import Writer
        except ModuleNotFoundError as error:
            raise WiringError(f"plugin neo4j needs {error.name}: pip install 'squall[neo4j]'") from error
        options, host = self.options, socket.gethostname()
        who = Who(self._router_id, options.router or host, host, os.getpid(), at(ctx.clock.time_ns()))
        graph = Graph(options)
        self._writer = Writer(self._observer, graph, who, ctx.clock, ctx.logger, options.flush)
        if options.required:
            try:
                await self._writer.prepare()
            except GraphError as error:
                await graph.close()
                raise ServerError(f"{error} (neo4j.required: the router does not start without it)") from error
            except BaseException:
                await graph.close()
                raise
        self._writer.start()

    @hookimpl
    async def squall_shutdown(self, ctx: Context) -> None:
        await self._writer.stop(self.options.timeout)

    @hookimpl
    def squall_cli_commands(self) -> Mapping[str, Callable[..., int]]:
        from squall.plugins.neo4j.command import flow

        return {"flow": flow}
