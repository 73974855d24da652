"""Some faults of `make soak-faults`, once: each shows in the events, nothing stale is used, and the counters add up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.devices import faults
from tests.support.devices.microphone import REASON, SoftwareMicrophone, available
from tests.support.signals import voice

pytestmark = [pytest.mark.live, pytest.mark.skipif(not available(), reason=REASON)]


NAMES = ("both killed", "camera frozen", "camera sends garbage", "camera changes resolution", "seeing raises")


def test_a_fault_shows_passes_and_is_accounted_for(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(faults, "HOLD_S", 0.3)
    with SoftwareMicrophone(tmp_path_factory.mktemp("pulse"), voice(3.0)) as microphone:
        for key, value in microphone.environment.items():
            monkeypatch.setenv(key, value)
        with faults.bench(tiny_bundle, microphone) as bench:
            for fault in faults.faults():
                found = faults.inject(bench, fault)
                assert found.wrong == (), found
    assert faults.unaccounted(bench.run) == {"frames": 0, "samples": 0}
    assert bench.run.stream.captured["stage_failures"] >= 1
