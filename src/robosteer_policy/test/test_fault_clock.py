"""The clock of the whole graph jumps: what was said before cannot be compared with what is said after.

Regressions pinned: stamps from before a jump passed as fresh, or as orders from the future; after a jump back nothing
could be moved before the clock had caught up with its former self.
"""

import pytest

from .fault_cases import Case, jump, prove
from .fault_world import FaultWorld
from .graph import graph

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clock")
    with graph(folder) as world:
        here = FaultWorld(world, folder, sim_time=True)
        yield here
        here.close()


@pytest.mark.parametrize("seconds", [10.0, -10.0])
def test_a_clock_that_jumps_ends_in_rest_and_a_person_goes_on(faults, seconds, record_property):
    prove(faults, f"clock {seconds:+.0f} s", Case(jump(seconds), "clock: jumped"), record_property)
