"""Messages on their way: tried again, given up, sent later; never waited for by the work."""

import logging
import threading
from urllib.error import HTTPError

import pytest

from flows.prefect import outbox
from flows.prefect.api import Refused
from flows.prefect.outbox import Outbox
from tests.flows.prefect.servers import wait_for


@pytest.fixture
def answering(monkeypatch):
    """Whether the probe finds a server; times are short."""
    found = threading.Event()
    for name, value in (("BUDGET_S", 0.3), ("PROBE_S", 0.1), ("_PAUSE_S", 0.02), ("_TICK_S", 0.05)):
        monkeypatch.setattr(outbox, name, value)
    monkeypatch.setattr(outbox, "has_api", lambda *patience_s: found.is_set())
    return found


class Server:
    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.got, self.asked = error, [], 0

    def take(self, what):
        def deliver() -> None:
            self.asked += 1
            if self.error:
                raise self.error
            self.got.append(what)

        return deliver


def test_messages_arrive_in_order_before_close_returns(answering):
    server, box = Server(), Outbox()
    for number in range(100):
        box.put(server.take(number))
    box.close()
    assert server.got == list(range(100))


def test_a_message_is_tried_again_until_it_arrives(answering):
    server, box = Server(ConnectionError("busy")), Outbox()
    box.put(server.take("a"))
    wait_for(lambda: server.asked >= 2)
    server.error = None
    box.close()
    assert server.got == ["a"]
    assert not box.is_lost


def test_a_server_that_is_gone_is_said_once_and_waited_for_by_nobody(answering, caplog):
    server, box = Server(ConnectionError("gone")), Outbox()
    with caplog.at_level(logging.WARNING):
        box.put(server.take("a"))
        box.put(server.take("b"))
        wait_for(lambda: box.is_lost)
        asked = server.asked
        box.close()
    assert server.asked == asked  # nothing is sent to a dead server
    assert [r.getMessage() for r in caplog.records] == [
        "the Prefect API stopped answering (gone); going on without it"
    ]


def test_what_waited_is_sent_when_the_server_is_back(answering):
    server, box = Server(ConnectionError("gone")), Outbox()
    box.put(server.take("a"))
    wait_for(lambda: box.is_lost)
    box.put(server.take("b"))
    server.error = None
    answering.set()
    wait_for(lambda: server.got == ["a", "b"])
    box.close()


@pytest.mark.parametrize("error", [Refused("422"), KeyError("id")])
def test_what_the_server_refuses_holds_up_nothing(answering, error):
    server, box = Server(error), Outbox()
    box.put(server.take("a"))
    wait_for(lambda: server.asked == 1)
    server.error = None
    box.put(server.take("b"))
    box.close()
    assert server.got == ["b"]


def test_what_a_living_server_cannot_digest_does_not_hold_up_the_rest(answering):
    answering.set()
    bad, good = Server(HTTPError("", 500, "broken", {}, None)), Server()  # pyright: ignore
    box = Outbox()
    box.put(bad.take("a"))
    box.put(good.take("b"))
    wait_for(lambda: good.got == ["b"])
    box.close()


def test_what_a_busy_database_puts_off_is_kept(answering):
    answering.set()
    server, box = Server(HTTPError("", 503, "database is locked", {}, None)), Outbox()  # pyright: ignore
    box.put(server.take("the run is opened"))
    box.put(server.take("a shard of it"))
    wait_for(lambda: server.asked > 20)  # given up more than once, and found again
    server.error = None
    box.close()
    assert server.got == ["the run is opened", "a shard of it"]


def test_a_long_absence_fills_no_memory_but_keeps_the_last_word(answering, monkeypatch):
    monkeypatch.setattr(outbox, "MOST", 3)
    server, box = Server(ConnectionError("gone")), Outbox()
    for number in range(10):
        box.put(server.take(number))
    box.put(server.take("last"), is_last=True)
    wait_for(lambda: box.is_lost)
    server.error = None
    answering.set()
    wait_for(lambda: server.got[-1:] == ["last"])
    box.close()
    assert server.got == [0, 1, 2, "last"]


def test_close_does_not_wait_for_a_server_that_hangs(answering, monkeypatch):
    monkeypatch.setattr(outbox, "PATIENCE_S", 0.2)
    hang = threading.Event()
    box = Outbox()
    box.put(lambda: hang.wait(30))
    box.close()
    assert box._thread.is_alive()  # it still waits, and ends with the process
    hang.set()


def test_the_end_looks_for_a_lost_server_but_briefly(answering, monkeypatch):
    looked: list[tuple[float, ...]] = []
    monkeypatch.setattr(outbox, "has_api", lambda *patience_s: bool(looked.append(patience_s)))
    box = Outbox()
    box.put(Server(ConnectionError("gone")).take("a"))
    wait_for(lambda: box.is_lost)
    box.close()
    assert looked[-1] == (outbox.LAST_LOOK_S,)


def test_the_tick_goes_on_while_nothing_is_said(answering):
    ticks = []
    box = Outbox(lambda: ticks.append(1))
    wait_for(lambda: len(ticks) >= 3)
    box.close()


def test_a_slow_server_hears_the_last_of_what_waits_about_one_thing(answering):
    server, box, go = Server(), Outbox(), threading.Event()
    box.put(go.wait)
    for number in range(3):
        box.put(server.take(f"a{number}"), about="a")
        box.put(server.take(f"b{number}"))
    go.set()
    box.close()
    assert server.got == ["a2", "b0", "b1", "b2"]
