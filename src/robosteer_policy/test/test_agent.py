"""Acting without ROS: frames to chunks, starting and stopping, and the inference thread on a real tiny model.

Regressions pinned: an inference that finished after a stop started the next run; non-finite actions reached the command
topic; a stale camera went on being acted on; an end that was not announced latched the guard; live steering outlasted a
run that was disabled, or that ended between two steps.
"""

import time

import numpy as np
import pytest

from robosteer_model.checkpoint import save_checkpoint
from robosteer_policy.acting import Acting, Result, State
from robosteer_policy.agent import to_chunk, why_stale
from robosteer_policy.chunks import Asynchronous
from robosteer_policy.requests import Outcome, Request
from robosteer_policy.slot import Closed, LatestSlot
from robosteer_policy.sources import CheckpointSource
from robosteer_policy.timing import Timing
from robosteer_policy.worker import Worker
from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_rig.rig import load_rig

from .panda import READY, RIG
from .tiny import DRIFT, HORIZON, tiny_checkpoint

MS = 1_000_000
RIG_HERE = load_rig(RIG)


def frame(stamp_ns=0, *, stale=(), velocity=0.0) -> Frame:
    image = np.full((64, 64, 3), 90, np.uint8)
    ages = {"left": 30 * MS, "wrist": 450 * MS if "wrist" in stale else 40 * MS, "joint_state": 5 * MS}
    images = {"left": image, "wrist": image}
    return Frame(stamp_ns, images, READY.copy(), np.full(7, velocity), 0.0, ages_ns=ages, stale=tuple(stale))


# Frames to chunks ----------------------------------------------------------------------------------------------------


def test_actions_become_rad_per_s_and_a_step_beyond_the_unit_is_scaled_as_a_whole():
    actions = np.zeros((3, 8))
    actions[0, :7] = 0.1
    actions[1, :2] = [2.0, -1.0]
    actions[:, 7] = [-0.03, 0.4, 1.2]
    chunk = to_chunk(actions, 7, RIG_HERE)
    np.testing.assert_allclose(chunk.velocity[0], 0.3)
    np.testing.assert_allclose(chunk.velocity[1, :3], [3.0, -1.5, 0.0])
    np.testing.assert_allclose(chunk.gripper, [0.0, 0.4, 1.0])
    assert (chunk.stamp_ns, chunk.horizon, chunk.period_ns) == (7, 3, 66_666_667)


@pytest.mark.parametrize("actions", [np.full((5, 8), np.nan), np.zeros((5, 7)), np.zeros(8), np.zeros((0, 8))])
def test_unusable_actions_are_refused(actions):
    with pytest.raises(RobosteerError, match="policy: found actions"):
        to_chunk(actions, 0, RIG_HERE)


def test_stale_inputs_are_named_with_age_and_limit():
    assert why_stale(frame(), RIG_HERE) == ""
    assert why_stale(frame(stale=("wrist",)), RIG_HERE) == "wrist is 450 ms old, limit 200 ms"
    assert "not every" in why_stale(None, RIG_HERE)


# Starting and stopping -----------------------------------------------------------------------------------------------


class Bench:
    """`Acting` with inputs and an inference that the test answers by hand."""

    ready, busy, latency_ns, slow_ns = True, False, 50 * MS, 90 * MS

    def __init__(self):
        self.now = 1000 * MS
        self.next_frame = frame
        self.asked, self.answers = [], []
        self.guard, self.ended = "", 0
        self.acting = Acting(
            *(RIG_HERE, self, self, lambda: Asynchronous(8), "pick up red cube"),
            may_move=lambda: self.guard,
            ended=self.count_end,
        )

    def count_end(self):
        self.ended += 1

    def frame_at(self, t_ns):
        return self.next_frame(t_ns)

    def stale_at(self, t_ns):
        return self.next_frame(t_ns).stale

    def ask(self, request):
        self.asked.append(request)
        self.busy = True

    def answer(self, *, trouble=""):
        """The inference under way ends."""
        request = self.asked[-1]
        chunk = to_chunk(np.full((HORIZON, 8), 0.1), request.frame.stamp_ns, RIG_HERE, request.sequence)
        self.answers.append(Result(request, None if trouble else Outcome(chunk), trouble))
        self.busy = False

    def take(self):
        return self.answers.pop() if self.answers else None

    def step(self):
        self.now += 66_666_667
        return self.acting.step(self.now)

    def run(self):
        """Enabled and acting on a first chunk."""
        self.step()
        assert self.acting.enable(self.now) == ""
        self.step()
        self.answer()
        assert self.step().action is not None


def test_a_run_acts_on_chunks_and_overlaps_inference():
    bench = Bench()
    bench.run()
    assert bench.acting.chunks == 1
    indices = []
    for _ in range(5):
        indices.append(bench.step().action.index)
    assert indices == [2, 3, 4, 5, 6]
    assert not bench.busy
    assert bench.step().action.index == 7
    assert bench.busy, "one latency before the eight actions are used up"
    assert [bench.step().action.index for _ in range(2)] == [8, 9]
    assert not bench.step().action.velocity.any(), "the next chunk is late: rest"
    bench.answer()
    assert bench.step().action.index == 4


def test_nothing_is_enabled_before_the_model_and_fresh_inputs_are_there():
    bench = Bench()
    bench.ready = False
    assert "still being loaded" in bench.acting.enable(bench.now)
    bench.ready = True
    bench.next_frame = lambda t: None
    assert "not every" in bench.acting.enable(bench.now)
    bench.next_frame = lambda t: frame(t, stale=("wrist",))
    assert "wrist is 450 ms old" in bench.acting.enable(bench.now)
    bench.next_frame = lambda t: frame(t, velocity=0.2)
    assert "moves at 0.20 rad/s" in bench.acting.enable(bench.now)
    bench.next_frame = frame
    assert bench.acting.enable(bench.now) == ""


def test_a_stale_input_stops_the_run_with_one_command_of_rest():
    bench = Bench()
    bench.run()
    bench.next_frame = lambda t: frame(t, stale=("wrist",))
    assert not bench.step().action.velocity.any(), "never act on it"
    bench.next_frame = frame
    assert bench.step().action.velocity.any(), "one late message is no reason to end"
    bench.next_frame = lambda t: frame(t, stale=("wrist",))
    assert not bench.step().action.velocity.any()
    farewell = bench.step().action
    assert not farewell.velocity.any()
    assert farewell.gripper is None
    assert bench.step().action is None
    assert bench.acting.state is State.STOPPED
    assert "wrist is 450 ms old" in bench.acting.reason
    bench.next_frame = frame
    assert bench.step().action is None, "it takes another enable"
    assert bench.acting.enable(bench.now) == ""


def test_between_two_steps_a_stale_input_means_rest_and_a_lost_guard_ends_the_run():
    bench = Bench()
    assert bench.acting.watch(bench.now) is None
    bench.guard = "guard: disarmed"
    bench.step()
    assert bench.acting.enable(bench.now) == "enable: guard: disarmed"
    bench.guard = ""
    bench.run()
    assert bench.acting.watch(bench.now) is None
    bench.next_frame = lambda t: frame(t, stale=("wrist",))
    assert not bench.acting.watch(bench.now).velocity.any()
    assert bench.acting.state is State.RUNNING
    bench.next_frame = frame
    bench.guard = "guard: fault (joint states)"
    assert not bench.acting.watch(bench.now).velocity.any()
    assert (bench.acting.state, bench.acting.reason) == (State.STOPPED, "guard: fault (joint states)")


def test_inferences_are_numbered_through_all_runs():
    bench = Bench()
    bench.run()
    bench.acting.stop("stopped on request")
    bench.run()
    assert [request.sequence for request in bench.asked] == [1, 2]
    assert bench.asked[0].run < bench.asked[1].run


def test_a_damaged_image_stops_the_run_with_its_own_words():
    def damaged(t):
        raise RobosteerError("/wrist: image: found damaged JPEG data")

    bench = Bench()
    bench.run()
    bench.next_frame = damaged
    bench.step()
    bench.step()
    assert bench.acting.reason == "/wrist: image: found damaged JPEG data"


def test_a_failed_inference_stops_the_run():
    bench = Bench()
    bench.step()
    bench.acting.enable(bench.now)
    bench.step()
    bench.answer(trouble="policy: found actions that are not finite")
    bench.step()
    assert bench.acting.state is State.STOPPED
    assert "not finite" in bench.acting.reason


def test_an_inference_of_an_ended_run_is_void():
    bench = Bench()
    bench.step()
    bench.acting.enable(bench.now)
    bench.step()
    bench.acting.stop("stopped on request")
    assert bench.acting.enable(bench.now) == ""
    bench.answer()
    assert bench.step().action is None
    assert bench.acting.chunks == 0


def test_disabling_is_an_ordinary_end_and_before_loading_stop_is_harmless():
    bench = Bench()
    bench.ready = False
    bench.acting.stop("early")
    assert bench.acting.state is State.LOADING
    bench.ready = True
    bench.run()
    bench.acting.disable()
    assert bench.acting.state is State.READY
    assert not bench.acting.last_word().velocity.any()
    assert bench.acting.last_word() is None


@pytest.mark.parametrize("end", ["disable", "stop", "guard between two steps", "guard", "stale", "inference"])
def test_every_way_in_which_a_run_ends_is_told_once(end):
    bench = Bench()
    bench.run()
    assert bench.ended == 0
    if end == "disable":
        bench.acting.disable()
    elif end == "stop":
        bench.acting.stop("a reason")
    elif end.startswith("guard"):
        bench.guard = "guard: fault"
        bench.acting.watch(bench.now) if "between" in end else bench.step()
    elif end == "stale":
        bench.next_frame = lambda t_ns: frame(t_ns, stale=("wrist",))
        bench.step(), bench.step()
    else:
        while not bench.busy:
            bench.step()
        bench.answer(trouble="policy: out of memory")
        bench.step()
    assert bench.acting.state is not State.RUNNING
    assert bench.ended == 1
    bench.acting.stop("again")
    assert bench.ended == 1


# The inference thread ------------------------------------------------------------------------------------------------


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_worker_loads_a_real_checkpoint_and_infers_chunks(tmp_path):
    path = save_checkpoint(tmp_path / "tiny", tiny_checkpoint())
    source = CheckpointSource(str(path), instruction="pick up red cube", num_steps=2)
    worker = Worker(source, RIG_HERE)
    assert not worker.ready
    worker.start()
    wait_for(lambda: worker.ready or worker.failure)
    assert worker.failure == ""
    worker.ask(Request(3, 1, frame(stamp_ns=77), "pick up red cube"))
    assert worker.busy
    wait_for(lambda: not worker.busy)
    result = worker.take()
    chunk = result.outcome.chunk
    assert (result.request.run, result.trouble, chunk.stamp_ns, chunk.sequence) == (3, "", 77, 1)
    assert chunk.velocity.shape == (HORIZON, 7)
    np.testing.assert_allclose(chunk.velocity[:, 0], 3.0 * DRIFT, atol=0.3)
    assert worker.latency_ns > 0
    worker.close()


@pytest.mark.parametrize(
    ("change", "line"),
    [("unit_rad_per_s: 3.0", "does not fit rig sim_panda: action.unit_rad_per_s"), (None, "checkpoint")],
    ids=["rig", "missing"],
)
def test_an_unfit_checkpoint_is_a_failure_in_one_line(tmp_path, change, line):
    path = tmp_path / "tiny"
    if change:
        save_checkpoint(path, tiny_checkpoint(RIG.read_text().replace(change, "unit_rad_per_s: 1.0")))
    worker = Worker(CheckpointSource(str(path)), RIG_HERE)
    worker.start()
    wait_for(lambda: worker.failure)
    assert line in worker.failure
    assert "\n" not in worker.failure
    assert not worker.ready


# Small parts ---------------------------------------------------------------------------------------------------------


def test_a_slot_keeps_the_newest_and_wakes_a_waiter_when_closed():
    slot = LatestSlot()
    slot.put(1)
    slot.put(2)
    assert (slot.wait(), slot.take()) == (2, None)
    slot.close()
    with pytest.raises(Closed):
        slot.wait()


def test_timing_reports_percentiles():
    timing = Timing()
    assert (timing.milliseconds(), timing.median_s()) == ({}, 0.0)
    for ms in range(1, 101):
        timing.add(ms / 1000)
    assert timing.milliseconds() == {"p50": 50.5, "p95": 95.0, "p99": 99.0, "max": 100.0}
