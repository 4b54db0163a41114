"""Replay a recorded run offline: the same observations through the same code must give the same chunks, bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robosteer_policy.agent import Agent
from robosteer_policy.requests import Record, parse_record
from robosteer_policy.sources import CheckpointSource
from robosteer_policy.steering.presets import load_presets
from robosteer_rig.align import Aligner
from robosteer_rig.bags import BagReader
from robosteer_rig.errors import RobosteerError
from robosteer_rig.frame import Frame
from robosteer_rig.messages import header_stamp
from robosteer_rig.rig import Rig, load_rig, parse_rig

RECORD_TOPIC = "/robosteer/policy/chunk_record"
RIG_KEY = "rig"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One replayed inference.

    Attributes:
        sequence: its number.
        difference: largest difference of any action, rad/s or gripper; 0.0 means the same bits.
        problem: why it could not be replayed; empty otherwise.
    """

    sequence: int
    difference: float = 0.0
    problem: str = ""

    @property
    def equal(self) -> bool:
        """Whether the chunk was reproduced."""
        return not self.problem and self.difference == 0.0


class Recording:
    """A recorded run: what was inferred, and the messages that were seen.

    Args:
        bag: rosbag2 directory with `/robosteer/policy/chunk_record` and the rig's observation topics.
        rig: of the run; None takes the one inside the bag.

    Attributes:
        records: by sequence.
        rig: of the run.

    Raises:
        RobosteerError: for a damaged bag, or one without records or without a rig.
    """

    def __init__(self, bag: Path, rig: Path | None = None) -> None:
        with BagReader(bag) as reader:
            self.rig = _rig(reader, rig)
            reader.require({"chunk records": (RECORD_TOPIC, "std_msgs/msg/String")})
            texts = [message.data for _, _, message in reader.messages([RECORD_TOPIC])]
            self.records = sorted(map(parse_record, texts), key=lambda record: record.fields["sequence"])
            self._messages = self._collect(reader)

    def _collect(self, reader: BagReader) -> dict[tuple[str, int], Any]:
        """The messages that some record names, by stream and stamp."""
        wanted = {(stream, stamp) for record in self.records for stream, stamp in record.inputs.items()}
        topics = {topic: name for name, (topic, _) in self.rig.observation_topics().items() if topic in reader.topics}
        found: dict[tuple[str, int], Any] = {}
        for topic, _, message in reader.messages(list(topics)):
            key = topics[topic], header_stamp(message)
            if key in wanted:
                found[key] = message
        return found

    def frame(self, record: Record) -> Frame | str:
        """The frame that an inference saw, made by the aligner; or what is missing, in words."""
        aligner = Aligner(self.rig)
        for stream, stamp in record.inputs.items():
            message = self._messages.get((stream, stamp))
            if message is None:
                return f"the bag lacks the {stream} message stamped {stamp}"
            aligner.receive(stream, message, stamp)
        return aligner.frame_at(record.fields["stamp_ns"]) or "the recorded inputs make no frame"

    def agent(self, checkpoint: str | None = None, preset_dir: str | None = None) -> Agent:
        """The policy of the run.

        Args:
            checkpoint: where it is now; None takes where it was.
            preset_dir: likewise.

        Raises:
            RobosteerError: for a run on a policy server, whose weights are not here.
        """
        fields = self.records[0].fields
        path = checkpoint or fields.get("checkpoint")
        if not path:
            raise RobosteerError("replay: found a run on a policy server, expected a checkpoint; pass --checkpoint")
        directory = preset_dir or fields.get("preset_dir")
        source = CheckpointSource(
            path=path,
            config=fields.get("config"),
            instruction=fields.get("first_instruction"),
            num_steps=fields.get("num_steps", 10),
            seed=fields.get("seed", 0),
            presets=load_presets(directory) if directory else {},
        )
        return Agent(source.load(self.rig), self.rig)

    def replay(self, agent: Agent) -> Iterator[Verdict]:
        """Infer again what was inferred, in order."""
        for record in self.records:
            yield self._again(agent, record)

    def _again(self, agent: Agent, record: Record) -> Verdict:
        sequence = record.fields["sequence"]
        frame = self.frame(record)
        if isinstance(frame, str):
            return Verdict(sequence, problem=frame)
        try:
            outcome = agent.act(record.request(frame))
        except RobosteerError as error:
            return Verdict(sequence, problem=str(error))
        return Verdict(sequence, record.differences(outcome))


def _rig(reader: BagReader, path: Path | None) -> Rig:
    if path is not None:
        return load_rig(path)
    text = reader.custom_data.get(RIG_KEY)
    if text is None:
        raise RobosteerError(f"{reader.path}: found no rig inside, expected one; pass --rig")
    return parse_rig(text, source=f"rig inside {reader.path}")
