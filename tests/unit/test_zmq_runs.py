"""The execution server remembers runs in bounded memory, and a client gets every event that is kept, once."""

from hypothesis import given
from hypothesis import strategies as st

from openhcs_omero.runtime import zmq_runs
from openhcs_omero.runtime.zmq_runs import Events, Run, Runs


def read(events, after=0):
    """Everything that a client gets which asks again and again."""
    found = []
    while True:
        new, after, more = events.after(after)
        found += new
        if not more:
            return found, after


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(0, 70))
def test_each_event_once(sizes, start):
    events = Events()
    for number, size in enumerate(sizes):
        events.add({"n": number, "text": "x" * size})
    found, after = read(events, start)
    assert [event["n"] for event in found] == list(range(start, len(sizes)))
    assert after == max(start, len(sizes))


def test_many_and_large_events(monkeypatch):
    """Answers have a limit, the oldest events are dropped, and the client is told."""
    events = Events()
    for number in range(1000):
        events.add({"n": number, "text": "x" * 100_000})
    assert events.size <= zmq_runs.MOST_EVENT_BYTES
    first, following, more = events.after(0)
    assert more and sum(len(event.get("text", "")) for event in first) <= zmq_runs.EVENT_BYTES_AT_ONCE
    dropped = first[1]["n"]
    assert first[0] == {"event": "log", "line": f"{dropped} earlier events are no longer kept here"}
    assert following == first[-1]["n"] + 1
    found, _ = read(events, following)
    assert [event["n"] for event in [*first[1:], *found]] == list(range(dropped, 1000))
    events.add({"n": 1000, "text": "x" * (2 * zmq_runs.MOST_EVENT_BYTES)})
    assert [event.get("n") for event in read(events)[0]] == [None, 1000]  # a single one is kept, whatever its size


def ended(name, size=0):
    return Run(name, 7, None, state="done", result={"tables": {"objects": "x" * size}})


def test_the_oldest_ended_runs_are_forgotten(monkeypatch):
    monkeypatch.setattr(zmq_runs, "MOST_KEPT_BYTES", 1000)
    runs = Runs()
    runs.add(Run("active", 7, None, state="running"))
    for number in range(150):
        runs.add(ended(f"small{number}"))
    assert len(runs.all()) == zmq_runs.KEPT and "active" in runs and "small149" in runs and "small0" not in runs
    runs.add(ended("large", 800))
    runs.add(ended("larger", 900))
    assert [run.run_id for run in runs.all()] == ["active", "larger"]
    runs.add(ended("alone", 5000))
    assert [run.run_id for run in runs.all()] == ["active", "alone"]
