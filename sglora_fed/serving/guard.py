"""What nobody foresaw: it is logged without a word of the request, and answered with a code."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglora_fed.errors import RateError
from sglora_fed.failures import told
from sglora_fed.serving.fair import Turns

LOG = logging.getLogger("sglora_fed.serving")


def log_failure(error: Exception) -> None:
    """One line of JSON: the kinds and places of an error."""
    LOG.error(json.dumps({"time": round(time.time(), 3), "failure": told(error)}))


class Guard:
    """Keeps a fault of any address from the server, which would log its text and close.

    Args:
        app: that is called.
        answer: for a request that it failed on.
    """

    def __init__(self, app: ASGIApp, answer: Callable[[Exception], Response]) -> None:
        self._app, self._answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - no request may end the service
            answer = self._answer(error)
            if not begun:
                await answer(scope, receive, send)


class InTurn:
    """Lets requests begin in fair order among clients, whatever their address is.

    Args:
        app: that is called.
        name_of: whose request it is.
    """

    def __init__(self, app: ASGIApp, name_of: Callable[[Scope], str]) -> None:
        self._app, self._name_of, self._turns = app, name_of, Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._turns.taken(self._name_of(scope))
        await self._app(scope, receive, send)


class Admitting:
    """Answers only requests that are let in, and counts them until they are answered.

    Args:
        app: that is called.
        admitted: lets a request in.
        refusal: for one that must wait.
    """

    def __init__(
        self,
        app: ASGIApp,
        admitted: Callable[[Scope], AbstractContextManager[None]],
        refusal: Callable[[RateError], Awaitable[Response]],
    ) -> None:
        self._app, self._admitted, self._refusal = app, admitted, refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        with ExitStack() as held:
            answer = self._app
            try:
                held.enter_context(self._admitted(scope))
            except RateError as error:
                answer = await self._refusal(error)
            await answer(scope, receive, send)
