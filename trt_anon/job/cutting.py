"""How a job cuts its videos: one place that decides, for one process and for many."""

from __future__ import annotations

from dataclasses import dataclass

from trt_anon.config import AnonymizeConfig
from trt_anon.job.inputs import Task
from trt_anon.job.resume import Recorder
from trt_anon.job.segments import SegmentPlan, plan_segments
from trt_anon.machine import usable_cores


@dataclass(frozen=True, slots=True)
class Cutting:
    """segment_seconds: the least length of a segment, 0 cuts nothing. workers: how many processes share the machine."""

    segment_seconds: float
    workers: int

    def plan(self, task: Task, config: AnonymizeConfig, recorder: Recorder | None) -> SegmentPlan | None:
        """How a task is cut; None where it is worked on whole. Raises InputError, UsageError.

        The encoder's threads shape what it makes of a frame: what was begun with some number goes on with it.
        """
        if task.kind != "video" or recorder is None or recorder.journal is None:
            return None
        if config.pipeline.on_error != "stop":  # what damage has spread to is known of the whole file only
            return None
        if config.track.track == "on" and config.track.two_pass:  # it looks through the whole file
            return None
        threads = recorder.encoder_threads(task) or config.runtime.threads
        return plan_segments(
            task.source,
            task.destination,
            length_seconds=self.segment_seconds,
            overlap_seconds=overlap_seconds(config),
            threads=threads or max(1, -(-3 * usable_cores() // (2 * self.workers))),  # as many as x264 would take
        )


def overlap_seconds(config: AnonymizeConfig) -> float:
    """How much of a video is looked at before and after a segment for its own sake.

    As long as a track can be lost, after which it is another, and as long as frames wait, and two seconds for what is
    known of a track to settle.
    """
    track = config.track
    if track.track == "off":
        return 0.0
    return 2.0 + max(track.max_gap_seconds, track.grace_seconds) + 2 * track.look_ahead_seconds
