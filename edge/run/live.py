"""Live streams of one process: built from the configuration, and built again in part when it changes (SIGHUP)."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

from moodring.capture.camera import open_camera
from moodring.clock import NS_PER_S, MonotonicClock
from moodring.config import Config
from moodring.errors import MoodringError, UsageError
from moodring.inference import bundle as bundles
from moodring.inference import tuning
from moodring.inference.bundle import Bundle
from moodring.pipeline import EventIdentity, Networks, Pipeline, open_networks
from moodring.publish.distributor import Distributor
from moodring.run.control import Signals, Systemd
from moodring.run.identity import live_identity
from moodring.run.memory import give_back, limit_arenas
from moodring.run.runtime import LiveRun, LiveStream
from moodring.run.schedule import MuteSchedule
from moodring.run.session import chosen, configured, describe, may_summarise, stages_of
from moodring.run.sinks import Offers, name_of, open_sinks
from moodring.run.sources import Sources, open_microphone
from moodring.run.stream import RunningStream
from moodring.types import EmotionEvent

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A configuration of which everything that can fail without touching a device has been tried."""

    config: Config
    sources: dict[str, Sources]
    bundle: Bundle
    networks: Networks


class LiveSession:
    """One process's live run. What a reload leaves as it was goes on undisturbed."""

    def __init__(
        self, arguments: argparse.Namespace, config: Config, bundle: Bundle, sources: dict[str, Sources], log: Log
    ) -> None:
        self._arguments = arguments
        self._log = log
        self._clock = MonotonicClock()
        limit_arenas()
        self._plan = self._planned(config, bundle, sources, None)
        self._schedule = _schedule(config)
        self._running: dict[str, RunningStream] = {}
        self._identities: dict[str, EventIdentity] = {}
        self._streams: dict[str, LiveStream] = {}  # the newest of each name, running or ended
        self._publishers: dict[str, Distributor] = {}
        self._sinks = contextlib.ExitStack()
        self._offers = Offers()
        self._live = LiveRun({}, self._clock)
        self._signals = Signals(self._live, log)
        self._systemd = Systemd()

    def run(self) -> int:
        with contextlib.ExitStack() as stack:
            stack.callback(self._close_sinks)
            for name in self._plan.sources:
                self._live.streams[name] = self._build(name, self._plan)
            self._open_sinks(self._plan)
            stack.push(lambda kind, _error, _where: self._summarise() if may_summarise(kind) else None)
            for device, muted in self._schedule.wanted().items():
                if muted:
                    self._say_scheduled(device, muted)
            gc.collect()
            gc.freeze()  # what is here now stays: nobody need look for garbage in it while a face waits
            self._signals.listen(reloads=self._arguments.config is not None)
            self._live.run(
                self._publish, tick_ns=_tick_ns(self._plan.config), seconds=self._arguments.seconds, between=self._between
            )
        return 0

    def _close_sinks(self) -> None:
        self._sinks.close()  # those that are open by then

    def _publish(self, name: str, event: EmotionEvent) -> None:
        self._publishers[name].publish(event)

    def _between(self) -> int:
        """Tell systemd how it goes, and take up a configuration that was changed; return how far the next tick is."""
        newest = {name: running.telemetry.last_event for name, running in self._running.items()}
        self._systemd.tell(newest, alive=self._live.makes_progress())
        for device, muted in self._schedule.turned().items():
            self._live.mute(device, muted)
            self._say_scheduled(device, muted)
        if self._signals.take_reload():
            self._reload()
        return _tick_ns(self._plan.config)

    def _say_scheduled(self, device: str, muted: bool) -> None:
        self._log(f"the {device} is {'muted' if muted else 'on'}, as its schedule says")

    # from a configuration to streams

    def _planned(self, config: Config, bundle: Bundle, sources: dict[str, Sources], before: _Plan | None) -> _Plan:
        same = before is not None and (bundle.id, config.inference, config.fusion.method) == (
            before.bundle.id, before.config.inference, before.config.fusion.method,
        )  # fmt: skip
        if before is not None and same:
            return _Plan(config, sources, bundle, before.networks)
        engine = config.inference
        forms, why = tuning.plan(bundle, engine.backend, engine.precision, engine.threads)
        self._log(f"networks: {tuning.describe(forms)} ({why})")
        networks = open_networks(config, bundle, forms)
        give_back()  # what it took to build them
        return _Plan(config, sources, bundle, networks)

    def _build(self, name: str, plan: _Plan) -> LiveStream:
        """Make a stream, or what takes the place of one that ended: its events and counters go on."""
        running = self._running.get(name)
        before = self._streams.pop(name, None)
        if name not in self._identities:
            self._identities[name] = live_identity(name, time.monotonic_ns())
        first_seq = running.pipeline.next_seq if running else 0
        pipeline = Pipeline(plan.config, plan.bundle, self._identities[name], plan.networks, first_seq)
        sources = plan.sources[name]
        if running is None:
            running = self._running[name] = RunningStream(sources, pipeline, self._clock)
        else:
            running.replace(sources, pipeline)
        prefix = "" if len(plan.sources) == 1 else f"{name}: "
        stream = LiveStream(
            stages_of(running, self._clock, self._offers, self._arguments),
            open_camera(sources.video) if sources.video else None,
            open_microphone(sources.audio) if sources.audio else None,
            self._clock,
            lambda message: self._log(prefix + message),
        )
        for device, scheduled in self._schedule.wanted().items():
            known = before is not None and before.has(device)  # then what people chose stays so
            stream.mute(device, device in before.muted if known and before else scheduled)
        running.readers = [stream]
        self._streams[name] = stream
        self._offers.mutes[name_of(pipeline.source)] = stream
        return stream

    def _open_sinks(self, plan: _Plan) -> None:
        alone = len(plan.sources) == 1
        running = [self._running[name] for name in plan.sources]
        streams = [describe(one, plan.config, self._arguments, alone=alone) for one in running]
        stack = contextlib.ExitStack()
        try:
            opened = open_sinks(
                plan.config, list(zip(running, streams, strict=True)), self._clock,
                stack=stack, log=self._log, offers=self._offers,
            )  # fmt: skip
        except BaseException:
            stack.close()
            raise
        self._sinks = stack
        self._publishers = dict(zip(plan.sources, opened, strict=True))

    # from one configuration to the next

    def _reload(self) -> None:
        """Take up the configuration as it is now; where it is wrong, go on with the one before and say why."""
        try:
            config = configured(self._arguments)
            bundle = bundles.load_configured(config.bundle, config.bundle_key)
            sources = chosen(self._arguments, config, bundle, lambda _: None)
            if not all(one.live for one in sources.values()):
                raise UsageError("it names a recording; a live run goes on with live streams alone")
            plan = self._planned(config, bundle, sources, self._plan)
        except MoodringError as error:
            self._log(f"the configuration is not taken up, the one before stays: {error}")
            return
        before, self._plan = self._plan, plan
        mutes = self._take_up_schedule(before.config, plan.config)
        rebuilt = self._replace_streams(before, plan)
        sinks = _sinks_of(before) != _sinks_of(plan)
        if sinks and not self._replace_sinks(before, plan):
            return
        changed = [*(f"stream {name}" for name in rebuilt), *(["mute"] if mutes else []), *(["sinks"] if sinks else [])]
        self._log(f"the configuration was read again: {', '.join(changed) or 'nothing'} changed")

    def _take_up_schedule(self, before: Config, config: Config) -> bool:
        """Let a schedule that was changed hold from now on; return whether it was."""
        if before.mute == config.mute:
            return False
        self._schedule = _schedule(config)
        for device, muted in self._schedule.wanted().items():
            if getattr(before.mute, device) != getattr(config.mute, device):
                self._live.mute(device, muted)
                self._say_scheduled(device, muted)
        return True

    def _replace_streams(self, before: _Plan, plan: _Plan) -> list[str]:
        """End the streams that changed or are gone, begin those that changed or are new; return their names."""
        same = _of_streams(before) == _of_streams(plan)
        kept = {name for name, sources in plan.sources.items() if same and before.sources.get(name) == sources}
        ended = [name for name in before.sources if name not in kept]
        begun = [name for name in plan.sources if name not in kept]
        self._live.remove(ended)
        for name in begun:
            self._live.add(name, self._build(name, plan))
        return list(dict.fromkeys([*begun, *ended]))

    def _replace_sinks(self, before: _Plan, plan: _Plan) -> bool:
        """Close the old sinks, which deliver or keep what they were given, and open the new ones; or the old ones again."""
        self._sinks.close()
        try:
            self._open_sinks(plan)
        except MoodringError as error:
            self._log(f"the sinks are not taken up, those before stay: {error}")
            kept = _Plan(_with_sinks_of(plan.config, before.config), plan.sources, plan.bundle, plan.networks)
            self._plan = kept
            self._open_sinks(kept)
            return False
        finally:
            for name in [name for name in self._running if name not in plan.sources]:
                self._forget(name)
        return True

    def _forget(self, name: str) -> None:
        """Take leave of a stream that is configured no longer."""
        running = self._running.pop(name)
        del self._identities[name], self._streams[name]
        self._offers.mutes.pop(name_of(running.pipeline.source), None)
        self._offers.previews.pop(name_of(running.pipeline.source), None)
        running.summarise(lambda message: self._log(f"{name}: {message}"))

    def _summarise(self) -> None:
        for name, running in self._running.items():
            prefix = "" if len(self._running) == 1 else f"{name}: "
            running.summarise(lambda message, prefix=prefix: self._log(prefix + message))  # type: ignore[misc]
        if self._live.ticks_skipped:
            self._log(f"{self._live.ticks_skipped} ticks came too late and were skipped")


def _schedule(config: Config) -> MuteSchedule:
    return MuteSchedule(dataclasses.asdict(config.mute))


def _tick_ns(config: Config) -> int:
    return int(NS_PER_S / config.fusion.rate_hz)


def _of_streams(plan: _Plan) -> tuple[object, ...]:
    """What a stream is made of, beside its sources."""
    c = plan.config
    return plan.bundle.id, c.face, c.speech, c.fusion, c.smoothing, c.labels, c.inference


def _sinks_of(plan: _Plan) -> tuple[object, ...]:
    c = plan.config
    return c.events, c.mqtt, c.lsl, c.metrics, c.page, c.fusion.rate_hz, tuple(plan.sources)


def _with_sinks_of(config: Config, before: Config) -> Config:
    b = before
    return dataclasses.replace(config, events=b.events, mqtt=b.mqtt, lsl=b.lsl, metrics=b.metrics, page=b.page)
