"""How far the host runs ahead of the devices."""

from flanx.training.program import IN_FLIGHT, InFlight


class Tick:
    """An output of a step, which tells when it is asked for and when it is waited for."""

    def __init__(self, step, events):
        self.step, self.events = step, events

    def copy_to_host_async(self):
        self.events.append(("dispatched", self.step))

    def __int__(self):
        self.events.append(("waited", self.step))
        return 10 * self.step


def test_the_next_batch_is_on_its_way_while_a_step_runs():
    """The loop puts a batch on the devices, dispatches its step, and then waits for one long before it."""
    events, in_flight = [], InFlight()
    ended = []
    for step in range(1, 6):
        events.append(("batch sent", step))
        ended.append(in_flight.add(step, Tick(step, events)))
    assert ended == [None] * IN_FLIGHT + [(n, 10 * n) for n in range(1, 6 - IN_FLIGHT)]
    for step in range(1, 6 - IN_FLIGHT):
        assert events.index(("batch sent", step + 1)) < events.index(("waited", step))
