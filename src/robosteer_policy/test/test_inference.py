"""One inference on a real tiny model: steering, shadow, continuation, records, and a server that is restarted.

Regressions pinned: λ = 0 ran another program than the untouched policy and differed in the last bits; the noise
depended on how many inferences a process had made before; showing attention changed the actions' last bits; in shadow
mode the policies started from different noise; a chunk waited for a picture; the first inference of a run compiled the
model, because the warm-up had left the noise to the model; a server that was restarted was never found again.
"""

import asyncio
import dataclasses
import logging
import threading

import jax
import numpy as np
import pytest

from robosteer_model.attention import patch_maps
from robosteer_model.checkpoint import save_checkpoint
from robosteer_model.errors import ModelError
from robosteer_model.policy import Policy
from robosteer_model.serving.server import PolicyServer
from robosteer_model.taps import Tap
from robosteer_policy.agent import Agent
from robosteer_policy.backends import LocalBackend, RemoteBackend
from robosteer_policy.overlays import ATTENTION, CLUSTER, Attention, Cluster, parse_heads
from robosteer_policy.requests import Request, Steering, parse_record, record
from robosteer_policy.sources import CheckpointSource, RemoteSource, require_source
from robosteer_policy.steering.compose import Composition
from robosteer_policy.steering.presets import parse_preset
from robosteer_policy.strategies import Continuation
from robosteer_policy.worker import Worker
from robosteer_rig.droid import observation
from robosteer_rig.errors import RobosteerError
from robosteer_rig.rig import load_rig

from .panda import RIG
from .test_agent import frame, wait_for
from .tiny import HORIZON, tiny_checkpoint

RIG_HERE = load_rig(RIG)
TASK = "pick up red cube"
PRESETS = {
    "push": parse_preset(
        "{schema: robosteer.preset/1, name: push, site: ffn, stream: suffix, targets: {0: [1, 2], 1: [3]}, alpha: 30}",
        "push",
    ),
    "mute": parse_preset(
        "{schema: robosteer.preset/1, name: mute, site: heads, stream: prefix, targets: {0: [0]}}", "mute"
    ),
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    path = save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", tiny_checkpoint())
    return Policy.load(path, num_steps=2)


def agent(policy, **options):
    return Agent(LocalBackend(policy, composition=Composition(PRESETS, policy.config), **options), RIG_HERE)


def request(sequence=1, strengths=None, shadow="", continuation=None):
    return Request(1, sequence, frame(stamp_ns=sequence * 10**9), TASK, Steering(strengths or {}, shadow), continuation)


def test_strength_zero_is_bitwise_the_untouched_policy_and_more_is_not(policy):
    plain = Agent(LocalBackend(policy), RIG_HERE).act(request()).chunk.velocity
    steered = agent(policy)
    np.testing.assert_array_equal(steered.act(request(strengths={"push": 0.0})).chunk.velocity, plain)
    half, full = (steered.act(request(strengths={"push": x})).chunk.velocity for x in (0.5, 1.0))
    assert 0 < np.abs(half - plain).max() < np.abs(full - plain).max()
    np.testing.assert_array_equal(steered.act(request()).chunk.velocity, plain)


def test_a_run_compiles_nothing(tmp_path, caplog):
    path = save_checkpoint(tmp_path / "tiny", tiny_checkpoint())
    heads = ((0, 1),)
    source = CheckpointSource(str(path), instruction=TASK, num_steps=1, presets=PRESETS, realtime=True, heads=heads)
    here, push, old = Agent(source.load(RIG_HERE), RIG_HERE), {"push": 0.5}, Continuation(1, shift=3, delay=3)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for one in (request(1), request(2, push, "plain"), request(3, {}, "", old), request(4, push, "", old)):
            here.act(one)
        for strengths in ({}, push):
            here.look(dataclasses.replace(request(5, strengths), overlays=frozenset({ATTENTION})))
    assert "jit(flow)" not in caplog.text
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        here.act(dataclasses.replace(request(6), instruction=20 * TASK))
    assert "jit(flow)" in caplog.text, "a longer prompt is another program"


def look(policy, kind, overlay):
    """What comes out when somebody looks, and the heat of each image."""
    here, wish = agent(policy, overlays={kind: overlay}), dataclasses.replace(request(), overlays=frozenset({kind}))
    here.look(wish)
    return here.act(wish), here.look(wish).overlays[kind]


def test_attention_is_a_share_of_each_image_and_changes_no_action(policy):
    plain = agent(policy).act(request())
    assert agent(policy).look(request()).overlays == {}
    seen, heats = look(policy, ATTENTION, Attention(policy, ((0, 1), (1, 0))))
    np.testing.assert_array_equal(seen.chunk.velocity, plain.chunk.velocity)
    assert {f"observation/{name}" for name in RIG_HERE.policy_cameras} == set(heats)
    assert all(heat.shape == (4, 4) and (heat > 0).all() for heat in heats.values())
    assert 0 < sum(heat.sum() for heat in heats.values()) < 1, "the rest goes to text and actions"
    _, one = look(policy, ATTENTION, Attention(policy, ((0, 1),)))
    assert any(np.abs(one[field] - heat).max() > 0 for field, heat in heats.items())
    with pytest.raises(RobosteerError, match=r"attention_heads: found 0\.2, expected heads from 0\.0 to 1\.1"):
        Attention(policy, ((0, 2),))


def test_a_picture_that_fails_is_said_and_the_chunk_comes_first(policy, capsys):
    taken = []

    class Broken:
        def maps(self, observation, noise, edits):
            taken.append(worker.take())
            raise ArithmeticError("a bug of ours")

    class Loaded(CheckpointSource):
        def load(self, rig):
            return LocalBackend(policy, overlays={CLUSTER: Broken()})

    worker = Worker(Loaded("tiny"), RIG_HERE)
    worker.start()
    worker.ask(dataclasses.replace(request(), overlays=frozenset({CLUSTER})))
    wait_for(lambda: not worker.busy)
    (result,), look = taken, worker.look()
    assert (result.trouble, result.outcome.chunk.sequence) == ("", 1)
    assert (look.overlays, look.trouble) == ({}, "policy: ArithmeticError: a bug of ours")
    assert "a bug of ours" in capsys.readouterr().err
    worker.ask(request(2))
    wait_for(lambda: not worker.busy)
    assert worker.look() is None
    worker.close()


SEES = dataclasses.replace(PRESETS["push"], name="sees", stream="prefix", targets={"0": (3,), "1": (1, 4)})


def test_a_cluster_is_shown_by_the_coefficients_of_its_value_vectors_and_changes_no_action(policy):
    outcome, heats = look(policy, CLUSTER, Cluster(policy, SEES))
    np.testing.assert_array_equal(outcome.chunk.velocity, agent(policy).act(request()).chunk.velocity)
    seen = observation(request().frame, RIG_HERE, TASK)
    noise = np.random.default_rng([0, 1]).standard_normal((HORIZON, 8), dtype=np.float32)
    whole = policy.infer(seen, noise, taps=(Tap("prefix.ffn.post", at="all"),))["taps"]["prefix.ffn.post"]
    for number, (slot, field) in enumerate(list(policy.transforms.layout.slot_fields(policy.config).items())[:2]):
        tokens = whole[:, 0, 16 * number : 16 * (number + 1)]
        by_hand = (np.abs(tokens[0, :, 3]) + np.abs(tokens[1, :, 1]) + np.abs(tokens[1, :, 4])) / 3
        np.testing.assert_allclose(heats[field], by_hand.reshape(4, 4), rtol=1e-5, err_msg=slot)
        assert np.ptp(heats[field]) > 0


def test_a_cluster_shows_what_is_executed(policy):
    presets = {"sees": dataclasses.replace(SEES, targets={"0": (3,)}, alpha=7.0)}
    backend = LocalBackend(
        policy, composition=Composition(presets, policy.config), overlays={CLUSTER: Cluster(policy, presets["sees"])}
    )
    wish = dataclasses.replace(request(strengths={"sees": 1.0}), overlays=frozenset({CLUSTER}))
    for heat in Agent(backend, RIG_HERE).look(wish).overlays[CLUSTER].values():
        np.testing.assert_allclose(heat, 7.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"stream": "suffix"}, r"found preset sees \(ffn, suffix\), expected site ffn and stream prefix"),
        ({"targets": {"2": (0,)}}, r"with 2\.0, expected value vectors from 0\.0 to 1\.15"),
        ({"targets": {"0": (16,)}}, r"with 0\.16, expected value vectors"),
    ],
)
def test_a_cluster_that_no_image_activates_is_refused(policy, change, line):
    with pytest.raises(RobosteerError, match=line):
        Cluster(policy, dataclasses.replace(SEES, **change))


def test_attention_lands_on_the_patch_of_the_camera_that_was_looked_at(policy):
    cameras, tokens = policy.config.cameras[:2], 16
    row = np.zeros((1, 1, 3 * tokens), np.float32)
    row[0, 0, tokens + 4 * 2 + 1] = 1.0
    maps = patch_maps(row, cameras, policy.config)
    assert [tuple(np.argwhere(np.asarray(maps[camera]) > 0).tolist()) for camera in cameras] == [(), ([0, 0, 2, 1],)]
    rolled = patch_maps(np.roll(row, -5, axis=2), cameras, policy.config, prefix=3 * tokens, shift=np.array([5]))
    np.testing.assert_array_equal(rolled[cameras[1]], maps[cameras[1]])


def test_heads_are_read_strictly():
    assert parse_heads(" 3.7  4.5 ") == ((3, 7), (4, 5))
    assert parse_heads("") == ()
    with pytest.raises(RobosteerError, match=r"attention_heads: found '\(3,7\)', expected layer\.head"):
        parse_heads("(3,7)")


def test_the_noise_depends_on_seed_and_number_alone(policy):
    first, again = agent(policy), agent(policy)
    chunks = [first.act(request(n)).chunk.velocity for n in (1, 2, 3)]
    np.testing.assert_array_equal(again.act(request(3)).chunk.velocity, chunks[2])
    assert np.abs(chunks[0] - chunks[1]).max() > 0
    assert np.abs(agent(policy, seed=1).act(request(3)).chunk.velocity - chunks[2]).max() > 0


def test_shadow_mode_computes_both_policies_from_the_same_noise(policy):
    plain = agent(policy).act(request()).chunk
    steered = agent(policy).act(request(strengths={"push": 1.0})).chunk
    for shadow, executed, other in (("plain", steered, plain), ("steered", plain, steered)):
        outcome = agent(policy).act(request(strengths={"push": 1.0}, shadow=shadow))
        np.testing.assert_array_equal(outcome.chunk.velocity, executed.velocity)
        np.testing.assert_array_equal(outcome.shadow.velocity, other.velocity)


def test_a_record_replays_bit_for_bit(policy):
    requests = [
        request(1),
        request(2, {"mute": 0.3}),
        request(3, {"mute": 0.7, "push": 1.0}, shadow="plain"),
        request(4, continuation=Continuation(3, shift=4, delay=2)),
    ]
    live, again = agent(policy), agent(policy)
    for one in requests:
        text = record(one, live.act(one), accepted=True, origin={"checkpoint": "x"})
        read = parse_record(text)
        assert read.inputs["wrist"] == one.frame.stamp_ns - one.frame.ages_ns["wrist"]
        back = read.request(one.frame)
        assert back.continuation == one.continuation
        assert read.differences(again.act(back)) == 0.0
        other = dataclasses.replace(back, sequence=back.sequence + 10, continuation=None)
        assert read.differences(agent(policy).act(other)) > 0
    with pytest.raises(RobosteerError, match=r"chunk record: found .* expected robosteer.chunk/1"):
        parse_record('{"schema": "robosteer.other/1"}')


def test_a_continuation_stays_near_the_old_chunk_where_it_is_frozen(policy):
    here = agent(policy)
    old = here.act(request(1, {"push": 1.0})).chunk.velocity
    free = agent(policy).act(request(2)).chunk.velocity
    bound = here.act(request(2, continuation=Continuation(1, shift=3, delay=3))).chunk.velocity
    before, after = (np.abs(x[:3] - old[3:6]).mean() for x in (free, bound))
    assert after < 0.5 * before
    with pytest.raises(RobosteerError, match="continuation: found no chunk 99"):
        here.act(request(3, continuation=Continuation(99, 1, 1)))


def test_what_does_not_fit_the_model_is_refused_and_what_cannot_act_is_said(policy):
    outside = dataclasses.replace(PRESETS["push"], targets={"5": (0,)})
    with pytest.raises(RobosteerError, match="preset push does not fit the checkpoint: suffix FFN edit"):
        Composition({"push": outside}, policy.config)
    dead = dataclasses.replace(PRESETS["mute"], targets={"1": (0,)})
    assert "never reach the actions" in Composition({"mute": dead}, policy.config).warnings[0]
    with pytest.raises(RobosteerError, match="steering: found push, expected no presets"):
        Agent(LocalBackend(policy), RIG_HERE).act(request(strengths={"push": 1.0}))


class Served:
    """A policy server in a thread, which can be ended."""

    def __init__(self, policy, port=0):
        self.server = PolicyServer(policy, policy.transforms.layout, metadata=policy.metadata, port=port)
        self.ready, self.loop = threading.Event(), asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.serve(),))
        self.thread.start()
        assert self.ready.wait(60)

    async def serve(self):
        self.over = asyncio.Event()
        async with self.server.listen() as self.port:
            self.ready.set()
            await self.over.wait()

    def end(self):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()


def test_a_server_that_is_restarted_is_found_again(policy):
    served = Served(policy)
    source = RemoteSource(f"ws://127.0.0.1:{served.port}", timeout_s=60.0)
    backend = source.load(RIG_HERE)
    assert isinstance(backend, RemoteBackend)
    remote = Agent(backend, RIG_HERE)
    assert remote.act(request()).chunk.velocity.shape == (HORIZON, 7)
    served.end()
    with pytest.raises(ModelError, match="policy server"):
        remote.act(request(2))
    with pytest.raises(ModelError, match="policy server"):
        remote.act(request(3))
    served = Served(policy, served.port)
    assert remote.act(request(4)).chunk.sequence == 4
    with pytest.raises(RobosteerError, match="steering: found a remote policy"):
        remote.act(request(5, {"push": 1.0}))
    backend.close()
    served.end()


@pytest.mark.parametrize(("checkpoint", "server"), [("", ""), ("a", "ws://b")])
def test_exactly_one_source_is_needed(checkpoint, server):
    with pytest.raises(RobosteerError, match="checkpoint, server: found"):
        require_source(checkpoint, server)
