"""What is told to Prefect, in order, on a thread of its own: no work ever waits for an answer."""

import http.client
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError

from flows.prefect.api import Refused
from flows.prefect.home import has_api

log = logging.getLogger("affectloom")

#: Seconds without an answer after which reporting stops.
BUDGET_S = 3.0
#: Seconds between two looks for a server that gave no answer.
PROBE_S = 10.0
#: Seconds that the end of the work waits for the rest to be sent, and for a lost server to be back.
PATIENCE_S = 5.0
LAST_LOOK_S = 0.5
#: Messages kept for a server that is away; later ones are left out, except the final state.
MOST = 5000
_PAUSE_S = 0.2
_TICK_S = 1.0

Deliver = Callable[[], object]


class Outbox:
    """Messages that wait for delivery.

    A message is a function that asks the API; it may be called again after a failure, so it must do
    no harm twice. After ``BUDGET_S`` without an answer nothing is sent until a cheap probe, every
    ``PROBE_S``, finds the server again; then the messages that waited are sent.

    Args:
        tick: called every second while the server answers, like a message.
    """

    def __init__(self, tick: Deliver = lambda: None) -> None:
        self.is_lost = False
        self._tick = tick
        self._waiting: deque[list[Any]] = deque()  # message, and what it is about
        self._about: dict[Hashable, list[Any]] = {}
        self._wake = threading.Condition()
        self._is_closing = self._is_closed = self._was_told = False
        self._failing_since: float | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name="prefect-outbox")
        self._thread.start()

    def put(self, message: Deliver, is_last: bool = False, about: Hashable = None) -> None:
        """Deliver ``message`` when its turn comes, instead of a waiting one ``about`` the same."""
        with self._wake:
            waiting = self._about.get(about) if about is not None else None
            if waiting is not None:
                waiting[0] = message  # a slow server need not hear what is past
            elif len(self._waiting) < MOST or is_last:
                self._waiting.append([message, about])
                if about is not None:
                    self._about[about] = self._waiting[-1]
            self._wake.notify_all()

    def close(self) -> None:
        """Deliver what waits, for at most ``PATIENCE_S``; at once where no server answers."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        self._thread.join(PATIENCE_S)
        with self._wake:
            self._is_closed = True  # whatever is left is not sent behind the caller's back
            self._waiting.clear()

    def _work(self) -> None:
        while not self._is_closed:
            with self._wake:
                if self.is_lost:
                    self._wake.wait_for(lambda: self._is_closing, PROBE_S)
                elif not self._waiting:
                    self._wake.wait_for(lambda: self._waiting or self._is_closing, _TICK_S)
                entry = self._waiting[0] if self._waiting else None
                if entry:
                    self._about.pop(entry[1], None)  # on its way: no longer to be replaced
            if self.is_lost and not self._is_back():
                if self._is_closing:
                    return
            elif entry is not None:
                if self._try(entry[0]):
                    with self._wake:
                        if self._waiting and self._waiting[0] is entry:
                            self._waiting.popleft()
            elif self._is_closing:
                return
            else:
                self._try(self._tick)

    def _try(self, message: Deliver) -> bool:
        """Whether the message is done with."""
        began = time.monotonic()
        try:
            message()
        except (Refused, LookupError, TypeError) as error:  # an answer, but none that helps
            log.debug("Prefect did not take a report: %r", error)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if self._failing_since is None:
                self._failing_since = began
            if time.monotonic() - self._failing_since < BUDGET_S - _PAUSE_S:
                time.sleep(_PAUSE_S)
                return False
            self._lose(error)
            # a message that a living server cannot digest must not hold up the others for ever;
            # 503 says that its database is busy, and what opens a run would be lost for good
            return isinstance(error, HTTPError) and error.code != HTTPStatus.SERVICE_UNAVAILABLE
        self._failing_since = None
        return True

    def _lose(self, error: Exception) -> None:
        self.is_lost = True
        # once: a server that comes and goes would otherwise fill the terminal
        level = logging.DEBUG if self._was_told else logging.WARNING
        log.log(level, "the Prefect API stopped answering (%s); going on without it", error)
        self._was_told = True

    def _is_back(self) -> bool:
        if not (has_api(LAST_LOOK_S) if self._is_closing else has_api()):
            return False
        log.debug("the Prefect API answers again; reporting goes on")
        self.is_lost, self._failing_since = False, None
        return True
