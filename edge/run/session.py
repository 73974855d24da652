"""The live streams of one `moodring run`. A changed configuration (SIGHUP) restarts only the streams that it concerns."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time

from moodring.capture.camera import open_camera
from moodring.capture.mute_schedule import MuteSchedule
from moodring.clock import NS_PER_S, Clock, MonotonicClock
from moodring.config import Config
from moodring.errors import MoodringError, UsageError
from moodring.inference import tuning
from moodring.inference.bundle import Bundle
from moodring.networks import Networks, open_networks
from moodring.pipeline import Pipeline
from moodring.process import limit_arenas, log, trim_heap
from moodring.publish.distributor import Distributor
from moodring.run.counters import StreamCounters, TimerFactory, ended_normally
from moodring.run.identity import live_identity
from moodring.run.options import RunOptions, load_bundle, read_configuration, select_sources, with_place
from moodring.run.preview import Preview
from moodring.run.signals import Signals, Systemd
from moodring.run.sinks import OpenPage, PageControls, open_sinks, stream_info
from moodring.run.sources import Sources, open_microphone
from moodring.run.stream import Stream
from moodring.run.ticks import TickLoop
from moodring.types import EmotionEvent, EventIdentity


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """A checked configuration: everything that can fail without opening a device has been tried."""

    config: Config
    sources: dict[str, Sources]
    bundle: Bundle
    networks: Networks


class Session:
    """The live run of one process. A reload leaves unchanged streams and sinks running."""

    def __init__(
        self,
        options: RunOptions,
        config: Config,
        bundle: Bundle,
        sources: dict[str, Sources],
        open_page: OpenPage,
        *,
        make_timer: TimerFactory,
    ) -> None:
        self._options, self._open_page, self._make_timer = options, open_page, make_timer
        self._clock: Clock = MonotonicClock()
        limit_arenas()
        self._plan = self._prepare(config, bundle, sources, None)
        self._schedule = _schedule(config)
        self._counters: dict[str, StreamCounters] = {}
        self._identities: dict[str, EventIdentity] = {}
        self._streams: dict[str, Stream] = {}  # the newest of each name, running or ended
        self._previews: dict[str, Preview] = {}
        self._distributors: dict[str, Distributor] = {}
        self._sinks = contextlib.ExitStack()
        self._controls = PageControls()
        self._loop = TickLoop({}, self._clock)
        self._signals = Signals(self._loop, log)
        self._systemd = Systemd()

    def run(self) -> int:
        """Run until the time limit or an interrupt; return exit code 0."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._close_sinks)
            for name in self._plan.sources:
                self._loop.streams[name] = self._build(name, self._plan)
            self._open_sinks(self._plan)
            stack.push(lambda kind, _error, _where: self._log_summary() if ended_normally(kind) else None)
            for device, muted in self._schedule.muted_now().items():
                if muted:
                    _log_scheduled(device, muted)
            gc.collect()
            gc.freeze()  # objects that live as long as the run: no collection scans them while a frame waits
            self._signals.listen(enable_reload=self._options.config is not None)
            self._loop.run(
                self._publish, tick_ns=_tick_ns(self._plan.config), seconds=self._options.seconds, between=self._between_ticks
            )
        return 0

    def _close_sinks(self) -> None:
        self._sinks.close()  # the sinks of the newest configuration

    def _publish(self, name: str, event: EmotionEvent) -> None:
        preview = self._previews.get(name)
        self._distributors[name].publish(preview.mark(event) if preview else event)

    def _between_ticks(self) -> int:
        """Notify systemd, apply the mute schedule and a requested reload; return the tick interval in ns."""
        newest = {name: counters.telemetry.last_event for name, counters in self._counters.items()}
        self._systemd.notify_status(newest, alive=self._loop.makes_progress())
        for device, muted in self._schedule.changes().items():
            self._loop.mute(device, muted)
            _log_scheduled(device, muted)
        if self._signals.pop_reload_request():
            self._reload()
        return _tick_ns(self._plan.config)

    # from a configuration to streams

    def _prepare(self, config: Config, bundle: Bundle, sources: dict[str, Sources], before: _Plan | None) -> _Plan:
        same_networks = before is not None and (bundle.id, config.inference, config.fusion.method) == (
            before.bundle.id, before.config.inference, before.config.fusion.method,
        )  # fmt: skip
        if before is not None and same_networks:
            return _Plan(config, sources, bundle, before.networks)
        engine = config.inference
        variants, why = tuning.plan(bundle, engine.backend, engine.precision, engine.threads)
        log(f"networks: {tuning.describe(variants)} ({why})")
        networks = open_networks(config, bundle, variants)
        trim_heap()  # memory that only loading needed
        return _Plan(config, sources, bundle, networks)

    def _build(self, name: str, plan: _Plan) -> Stream:
        """Return a new stream, or the successor of one that ended: sequence numbers, counters and mutes continue."""
        counters = self._counters.setdefault(name, StreamCounters(self._clock, self._make_timer))
        before = self._streams.pop(name, None)
        identity = self._identities.setdefault(name, live_identity(name, time.monotonic_ns()))
        preview = Preview() if self._options.preview else None
        pipeline = Pipeline(
            plan.config, plan.bundle, identity, plan.networks, counters.next_seq,
            timer=counters.timer, on_frame=preview.on_frame if preview else None,
        )  # fmt: skip
        sources = plan.sources[name]
        prefix = "" if len(plan.sources) == 1 else f"{name}: "
        stream = Stream(
            pipeline,
            open_camera(sources.video, snapshot_hz=sources.camera.snapshot_hz, track=sources.selection.video_track)
            if sources.video
            else None,
            open_microphone(sources.audio, sources.selection.audio_track) if sources.audio else None,
            self._clock,
            lambda message: log(prefix + message),
            frozen_s=sources.camera.frozen_s,
        )
        counters.attach(sources, pipeline, [stream])
        for device, scheduled in self._schedule.muted_now().items():
            known = before is not None and before.has(device)  # an existing device keeps its mute state
            stream.mute(device, device in before.muted if known and before else scheduled)
        self._streams[name] = stream
        info = stream_info(counters, plan.config, self._options)
        self._controls.mutes[info.name] = stream
        if preview:
            self._previews[name] = preview
            self._controls.previews[info.name] = preview.jpeg
        return stream

    def _open_sinks(self, plan: _Plan) -> None:
        alone = len(plan.sources) == 1
        infos = [stream_info(self._counters[name], plan.config, self._options, alone=alone) for name in plan.sources]
        stack = contextlib.ExitStack()
        try:
            opened = open_sinks(
                plan.config, infos, self._clock, stack=stack, log=log, open_page=self._open_page, controls=self._controls
            )
        except BaseException:
            stack.close()
            raise
        self._sinks = stack
        self._distributors = dict(zip(plan.sources, opened, strict=True))

    # from one configuration to the next

    def _reload(self) -> None:
        """Apply the configuration file as it is now. Where it is invalid, keep the previous one and log why."""
        try:
            config = read_configuration(self._options)
            bundle = load_bundle(config, self._options)
            sources = select_sources(self._options, config, bundle, lambda _: None)
            if not all(one.live for one in sources.values()):
                raise UsageError("it names a recording; a live run accepts live sources only")
            plan = self._prepare(config, bundle, sources, self._plan)
        except MoodringError as error:
            log(f"the new configuration is not valid, the previous one stays: {with_place(error, self._options)}")
            return
        before, self._plan = self._plan, plan
        mutes = self._replace_schedule(before.config, plan.config)
        rebuilt = self._replace_streams(before, plan)
        sinks = _sink_settings(before) != _sink_settings(plan)
        if sinks and not self._replace_sinks(before, plan):
            return
        changed = [*(f"stream {name}" for name in rebuilt), *(["mute"] if mutes else []), *(["sinks"] if sinks else [])]
        log(f"the configuration was read again: {', '.join(changed) or 'nothing'} changed")

    def _replace_schedule(self, before: Config, config: Config) -> bool:
        """Apply a changed mute schedule; return whether it changed."""
        if before.mute == config.mute:
            return False
        self._schedule = _schedule(config)
        for device, muted in self._schedule.muted_now().items():
            if getattr(before.mute, device) != getattr(config.mute, device):
                self._loop.mute(device, muted)
                _log_scheduled(device, muted)
        return True

    def _replace_streams(self, before: _Plan, plan: _Plan) -> list[str]:
        """Stop the streams that changed or are gone, start those that changed or are new; return their names."""
        same = _stream_settings(before) == _stream_settings(plan)
        unchanged = {name for name, sources in plan.sources.items() if same and before.sources.get(name) == sources}
        ended = [name for name in before.sources if name not in unchanged]
        started = [name for name in plan.sources if name not in unchanged]
        self._loop.remove(ended)
        for name in started:
            self._loop.add(name, self._build(name, plan))
        return list(dict.fromkeys([*started, *ended]))

    def _replace_sinks(self, before: _Plan, plan: _Plan) -> bool:
        """Close the sinks, which deliver or spool what they hold, and open the new ones, or the old ones again on an error."""
        self._sinks.close()
        try:
            self._open_sinks(plan)
        except MoodringError as error:
            log(f"the new sinks cannot be opened, the previous ones stay: {with_place(error, self._options)}")
            b = before.config
            config = dataclasses.replace(
                plan.config, events=b.events, mqtt=b.mqtt, lsl=b.lsl, metrics=b.metrics, page=b.page
            )  # fmt: skip
            self._plan = dataclasses.replace(plan, config=config)
            self._open_sinks(self._plan)
            return False
        finally:
            for name in [name for name in self._counters if name not in plan.sources]:
                self._discard(name)
        return True

    def _discard(self, name: str) -> None:
        """Log the summary of a stream that is no longer configured, and drop its state."""
        counters = self._counters.pop(name)
        info = stream_info(counters, self._plan.config, self._options)
        del self._identities[name], self._streams[name]
        self._previews.pop(name, None)
        self._controls.mutes.pop(info.name, None)
        self._controls.previews.pop(info.name, None)
        counters.log_summary(lambda message: log(f"{name}: {message}"))

    def _log_summary(self) -> None:
        for name, counters in self._counters.items():
            prefix = "" if len(self._counters) == 1 else f"{name}: "
            counters.log_summary(lambda message, prefix=prefix: log(prefix + message))  # type: ignore[misc]
        if self._loop.ticks_skipped:
            log(f"{self._loop.ticks_skipped} ticks were overdue and skipped")


def _log_scheduled(device: str, muted: bool) -> None:
    log(f"the {device} is {'muted' if muted else 'on'}, by the mute schedule")


def _schedule(config: Config) -> MuteSchedule:
    return MuteSchedule(dataclasses.asdict(config.mute))


def _tick_ns(config: Config) -> int:
    return int(NS_PER_S / config.fusion.rate_hz)


def _stream_settings(plan: _Plan) -> tuple[object, ...]:
    """Return the settings that all streams depend on, beside their sources."""
    c = plan.config
    return plan.bundle.id, c.face, c.speech, c.fusion, c.smoothing, c.labels, c.inference


def _sink_settings(plan: _Plan) -> tuple[object, ...]:
    """Return the settings that the sinks depend on."""
    c = plan.config
    return c.events, c.mqtt, c.lsl, c.metrics, c.page, c.fusion.rate_hz, tuple(plan.sources)
