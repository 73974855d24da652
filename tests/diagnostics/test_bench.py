"""`moodring bench`: timing does not change events, the figures add up, and noisy figures are marked."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import check as bench_check
from benchmarks import pairs as bench_pairs
from moodring.capture.grey import decode_jpeg
from moodring.capture.network import NetworkCamera
from moodring.config import Config, SpeechConfig
from moodring.diagnostics.bench import hot, recording
from moodring.diagnostics.bench import paced as live
from moodring.diagnostics.bench.hot import IDENTITY
from moodring.diagnostics.bench.kernels import KERNELS, KernelBaseline
from moodring.diagnostics.bench.machine import Snapshot, describe, troubles
from moodring.diagnostics.bench.measured import STAGES, Measured, measured_pipeline
from moodring.diagnostics.bench.timing import Stage, quantiles_us, spread
from moodring.diagnostics.peers import cameras
from moodring.errors import MediaError, UsageError
from moodring.inference import bundle as bundles
from moodring.inference.variants import fixed_plan
from moodring.networks import open_networks
from moodring.pipeline import Pipeline
from moodring.run.sources import SAMPLE_CLIP
from moodring.types import AudioBlock

ROOT = Path(__file__).resolve().parents[2]


class ListSink:
    """A publisher that stores its events in a list."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def publish(self, event: object) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def clip() -> recording.Recording:
    whole = recording.load(str(SAMPLE_CLIP))
    return dataclasses.replace(whole, jpegs=whole.jpegs[:40], sound=whole.sound[: 3 * recording.RATE_HZ])


@pytest.fixture
def measured(tiny_bundle: Path) -> Measured:
    config, bundle = Config(speech=SpeechConfig("cv2")), bundles.load(tiny_bundle)
    return measured_pipeline(config, bundle, IDENTITY, open_networks(config, bundle))


def test_a_measured_pipeline_gives_the_same_events_and_times_every_call(tiny_bundle: Path, clip, measured: Measured):
    config, bundle = Config(speech=SpeechConfig("cv2")), bundles.load(tiny_bundle)
    plain = Pipeline(config, bundle, IDENTITY, open_networks(config, bundle))
    events: list[list[object]] = [[], []]
    for one, said in zip((plain, measured.pipeline), events, strict=True):
        for index in range(len(clip.jpegs)):
            now_ns = index * 40_000_000
            frame = one.decode(clip.captured(index, now_ns))
            one.process_frame(frame)
            one.search_new_faces(frame)
            sound = clip.sound[index * 640 : (index + 1) * 640]
            one.process_audio(AudioBlock(sound, now_ns))
            said.append(one.tick(now_ns, {"camera": "ok", "microphone": "ok"}))
    assert events[0] == events[1]
    stages = {name: stage.figures()["calls"] for name, stage in measured.recorder.stages.items()}
    assert stages["decode"] == stages["mfcc"] == len(clip.jpegs)
    assert stages["search"] == stages["detect"]
    assert stages["face"] == stages["see"] == stages["crop"] == measured.pipeline.counters.faces_read > 10
    measured.recorder.clear()
    assert not any(stage.wall_ns for stage in measured.recorder.stages.values())


def test_the_hot_part_compares_every_stage_with_its_kernel(tiny_bundle: Path, clip, measured: Measured):
    bundle = bundles.load(tiny_bundle)
    config = Config(speech=SpeechConfig("cv2"))
    whole = measured_pipeline(config, bundle, IDENTITY, open_networks(config, bundle), inner=False)
    kept = ListSink()
    floor = KernelBaseline(bundle, fixed_plan(bundle, "onnx", "fp32"), clip.reduction)
    figures = hot.judge(lambda: hot.sample(measured, whole, floor, clip, kept))
    assert hot.MIN_PROCESSES <= figures["processes"] <= hot.MAX_PROCESSES
    assert figures["ratios"].keys() >= {"frame", "frame_mean", "stream", "decode", "detect", "face", "mfcc"}
    assert figures["floor_us"].keys() >= set(KERNELS) - {"speech"}
    assert all(ratio > 0 for ratio in figures["ratios"].values())
    assert figures["noisy"] == (max(figures["spread"].values()) > 0.10)
    assert figures["stages"].keys() == {*STAGES, "see"}
    assert len(kept.events) % (2 * (hot.ROUNDS + 1) * figures["processes"]) == 0  # includes warm-up


def test_the_paced_part_measures_latency(clip, measured: Measured, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "WARM_UP_S", 0.5)
    figures = live.measure([measured], [live.played(clip)], ListSink(), 1.5)
    assert figures["counted"]["frames_captured"] > 10
    assert 0 < figures["answer_ms"]["p50"] <= figures["answer_ms"]["p99"] <= figures["answer_ms"]["max"]
    assert figures["event_ms"]["p50"] > 0
    assert figures["cpu_ms_per_frame"] > 0


def test_a_recording_without_video_or_a_face_is_rejected(tmp_path: Path, tiny_bundle: Path, clip, measured: Measured):
    with pytest.raises(UsageError, match="no such file"):
        recording.load(str(tmp_path / "none.mp4"))
    bundle = bundles.load(tiny_bundle)
    black = np.asarray(cv2.imencode(".jpg", np.zeros((480, 640), np.uint8))[1], np.uint8).reshape(-1)
    empty = dataclasses.replace(clip, jpegs=[black] * 4)
    with pytest.raises(MediaError, match="no face was classified"):
        hot.sample(measured, measured, KernelBaseline(bundle, fixed_plan(bundle, "onnx", "fp32"), 1), empty, ListSink())


def test_stage_times_spread_and_machine_description():
    stage = Stage()
    assert stage.timed(lambda x: x + 1)(1) == 2
    assert stage.figures()["calls"] == 1
    assert quantiles_us([1000, 2000, 3000]) == pytest.approx({"p50": 2.0, "p95": 2.9, "p99": 2.98, "max": 3.0})
    assert quantiles_us([]) == {}
    assert spread([1.0, 1.1, 0.9]) == pytest.approx(0.2)
    assert spread([1.0]) == float("inf")
    quiet = {"others_cores": 0.1, "stolen_cores": None, "throttled": 0}
    assert troubles(quiet) == []
    assert len(troubles({"others_cores": 1.5, "stolen_cores": 0.5, "throttled": 2})) == 3
    assert Snapshot.now().until(Snapshot.now())["seconds"] >= 0
    assert describe()["cores"] == os.cpu_count()


def test_the_check_reports_changes_and_fails_only_for_slowdowns(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old = {"noisy": False, "ratios": {"floor.frame": 1.5, "floor.face": 1.2, "peer.naive_answer": 100.0, "peer.gone": 1.0}}
    new = {"noisy": False, "ratios": {"floor.frame": 1.52, "floor.face": 1.0, "peer.naive_answer": 80.0, "peer.new": 1.0}}
    files = [tmp_path / name for name in ("old.json", "new.json")]
    for file, figures in zip(files, (old, new), strict=True):
        file.write_text(json.dumps(figures))
    assert bench_check.main([str(file) for file in files]) == 1
    said = capsys.readouterr().out
    assert "worse: peer.naive_answer 100.00 -> 80.00" in said
    assert "better: floor.face 1.20 -> 1.00" in said
    assert "floor.frame" not in said
    assert "only in one run: peer.gone, peer.new" in said
    files[1].write_text(json.dumps(new | {"noisy": True}))
    assert bench_check.main([str(file) for file in files]) == 0
    assert "noisy" in capsys.readouterr().out
    files[1].write_text(json.dumps(old))
    assert bench_check.main([str(file) for file in files]) == 0


def test_the_help_explains_every_stage():
    run = subprocess.run(
        [sys.executable, "-m", "moodring.cli", "bench", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    text = " ".join(run.stdout.split())
    assert all(f"{stage} (" in text or f"{stage}," in text for stage in STAGES)
    assert all(word in text for word in ("hot:", "paced:", "floor:", "noisy"))


def test_a_mark_survives_the_camera_and_gives_the_capture_time(clip):
    for number in (0, 1, 349, 4095):
        picture = cameras.draw_mark(decode_jpeg(clip.jpegs[0], 1), number)
        jpeg = np.asarray(cv2.imencode(".jpg", picture)[1], np.uint8).reshape(-1)
        for reduction in (1, 2):
            assert cameras.read_mark(decode_jpeg(jpeg, reduction), cameras.MARK_SIDE_PX // reduction) == number
    with cameras.serve_recording(clip) as endpoints, NetworkCamera(endpoints.video(30.0, first=7)) as camera:
        decoder, captured_at_ns = cameras.CaptureTimeDecoder(endpoints, 30.0, 7), []
        for _ in range(5):
            frame = camera.read().decode_frame()
            captured_at_ns.append(decoder.captured_at_ns(frame.grey))
            assert captured_at_ns[-1] <= frame.capture_time_ns
    apart_ms = np.diff(captured_at_ns) / 1e6
    assert (apart_ms > 33.3).all()
    np.testing.assert_allclose(apart_ms / (1000 / 30), np.round(apart_ms / (1000 / 30)), atol=1e-3)


def test_two_runs_agree_within_10_percent():
    ratios = {"floor.frame": 1.2, "floor.face": 1.0}
    run = {"noisy": False, "troubles": [], "ratios": ratios}
    near, far = run | {"ratios": ratios | {"floor.frame": 1.25}}, run | {"noisy": True, "ratios": ratios | {"floor.face": 1.2}}
    assert bench_pairs.compare(run, near)["agree"]
    apart = bench_pairs.compare(run, far)
    assert (apart["agree"], apart["in"], apart["noisy"]) == (False, "floor.face", ["second"])
    assert apart["worst"] == pytest.approx(0.2)
