"""Some faults of `python -m benchmarks faults`: they show in the events, no stale output is used, the counters add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.devices import faults
from tests.support.devices.microphone import SKIP_REASON, SoftwareMicrophone, is_available
from tests.support.signals import voice

pytestmark = [pytest.mark.live, pytest.mark.skipif(not is_available(), reason=SKIP_REASON)]


NAMES = ("both killed", "camera frozen", "camera sends garbage", "camera changes resolution", "seeing raises")


def test_a_fault_shows_ends_and_is_counted(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(faults, "HOLD_S", 0.3)
    with SoftwareMicrophone(tmp_path_factory.mktemp("pulse"), voice(3.0)) as microphone:
        for key, value in microphone.environment.items():
            monkeypatch.setenv(key, value)
        with faults.rig(tiny_bundle, microphone) as rig:
            for fault in faults.faults():
                found = faults.inject(rig, fault)
                assert found.violations == (), found
    assert faults.unaccounted(rig.run) == {"frames": 0, "samples": 0}
    assert rig.run.stream.captured["stage_failures"] >= 1
