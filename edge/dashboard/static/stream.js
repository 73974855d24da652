// Card of one stream: shows its newest events. Writes to the document only what has changed.

import { Timeline } from "/timeline.js";

const LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "calm"];
const OLD_MS = 2_500; // without an event for longer than this, the data is old
const HIGH_LATENCY_MS = 500; // a p99 above this is shown as a problem
const ANNOUNCE_INTERVAL_MS = 5_000; // for screen readers
const SPEAKING_MS = 700; // maximum age of a speech result
const MIN_LEVEL_DBFS = -60; // left end of the meter
const SAMPLE_RATE_HZ = 16_000;
const BY_DESIGN = "frames_above_rate"; // skipped because of face.rate_hz
const SVG = "http://www.w3.org/2000/svg";
const DEVICE_NAMES = { camera: "Camera", microphone: "Microphone" };
const STATE_TEXTS = {
  no_signal: "No signal",
  no_face: "No face in view",
  no_speech: "No speech",
};
const FAULTY_STATES = ["lost", "frozen"]; // of a device
// Why a device gives no result, by the state of the device.
const NO_RESULT_TEXTS = {
  camera: { ok: "no face in view", lost: "camera lost", frozen: "camera frozen", muted: "camera muted", absent: "no camera" },
  microphone: { ok: "no speech", lost: "microphone lost", frozen: "microphone frozen", muted: "microphone muted", absent: "no microphone" },
};
const GOLDEN_ANGLE_DEG = 137.508; // consecutive multiples give hues that differ
const percent = (p) => `${Math.round(100 * p)} %`;
const integer = new Intl.NumberFormat("en");
const capitalize = (text) => text[0].toUpperCase() + text.slice(1);

// The labels to show for events with these labels: all of moodring's, or those of a custom bundle.
const displayedLabels = (labels) => (labels.every((label) => LABELS.includes(label)) ? LABELS : labels);

export class Stream {
  constructor(name, element, { mute, announce, hasPreview, canMute }) {
    this.name = name;
    this.options = { mute, announce, hasPreview, canMute };
    this.element = element;
    this.parts = new Map([...this.element.querySelectorAll("[data-is]")].map((part) => [part.dataset.is, part]));
    this.written = new Map();
    this.timeline = new Timeline(this.part("timeline"));
    this.setLabels(LABELS);
    this.rects = [];
    this.emotion = null;
    this.status = null;
    this.gauge = null;
    this.receivedMs = -Infinity;
    this.announcedMs = -Infinity;
    this.announced = "";
    this.recentTimes = [];
    this.write("name", name);
    this.element.setAttribute("aria-label", `Stream ${name}`);
    for (const button of this.element.querySelectorAll("button[data-device]")) {
      button.addEventListener("click", () => this.toggle(button.dataset.device));
    }
  }

  part(name) {
    return this.parts.get(name);
  }

  write(name, text) {
    if (this.written.get(name) === text) return;
    this.written.set(name, text);
    this.part(name).textContent = text;
  }

  // Set the labels, one row of the table for each. The timeline of other labels is cleared.
  setLabels(labels) {
    this.labels = labels;
    const body = this.element.querySelector("tbody");
    while (body.rows.length > labels.length) body.lastElementChild.remove();
    while (body.rows.length < labels.length) body.append(body.rows[0].cloneNode(true));
    this.rows = labels.map((label, k) => this.row(label, body.rows[k]));
    this.timeline.setColors(labels.map((label) => this.color(label)));
  }

  // Return the name of a colour of the style sheet, or a hue for a label of a custom bundle.
  color(label) {
    if (LABELS.includes(label)) return `--${label}`;
    return `hsl(${Math.round(this.labels.indexOf(label) * GOLDEN_ANGLE_DEG) % 360} 45% 52%)`;
  }

  css(label) {
    const color = this.color(label);
    return color.startsWith("--") ? `var(${color})` : color;
  }

  row(label, row) {
    const bar = row.querySelector("i");
    bar.style.setProperty("--of", this.css(label));
    const name = row.querySelector("th");
    name.textContent = name.title = label;
    return { row, bar, cells: row.querySelectorAll("td"), now: [] };
  }

  // Input

  setHistory(history) {
    this.setLabels(history.labels);
    this.timeline.clear();
    history.times_ms.forEach((time, k) => {
      const point = history.per_mille[k];
      this.timeline.push(time, point && point.map((p) => p / 1000));
    });
  }

  addEmotion(event) {
    const data = event.data;
    const timeMs = Date.parse(event.time);
    const labels = Object.keys(data.probabilities ?? {});
    if (labels.some((label) => !this.labels.includes(label))) this.setLabels(displayedLabels(labels));
    if (this.emotion === null || timeMs > this.timeline.newest || timeMs < this.timeline.newest - 1000) {
      this.timeline.push(timeMs, data.probabilities && this.labels.map((label) => data.probabilities[label] ?? 0));
    }
    this.emotion = data;
    this.receivedMs = performance.now();
    this.recentTimes.push(timeMs);
    if (this.recentTimes.length > 26) this.recentTimes.shift();
  }

  setStatus(status) {
    this.status = status.data;
  }

  setGauge(gauge) {
    this.gauge = gauge;
  }

  get isOld() {
    return performance.now() - this.receivedMs > OLD_MS;
  }

  // Output

  draw() {
    const data = this.emotion;
    if (data === null) return;
    this.drawAge();
    this.drawNow(data);
    this.drawRows(data);
    this.drawFaces(data);
    this.drawBranch("face", data.face, data.modalities.includes("face"), "camera");
    this.drawBranch("voice", data.speech, data.modalities.includes("speech"), "microphone");
    this.drawLevel(data);
    this.drawDevices(data.devices);
    this.drawFigures(data);
    this.timeline.draw();
    this.announceChange(data);
  }

  drawAge() {
    this.element.toggleAttribute("data-old", this.isOld);
    const problem = this.findProblem();
    this.write("trouble", problem.text);
    this.part("trouble").dataset.kind = problem.kind;
  }

  // Return the most important problem as text; kind "bad" is a fault, "note" is not.
  findProblem() {
    if (this.emotion === null) return { text: "", kind: "" };
    if (this.isOld) {
      const seconds = Math.round((performance.now() - this.receivedMs) / 1000);
      return { text: `Old data: last event ${seconds} s ago`, kind: "bad" };
    }
    const { camera, microphone } = this.emotion.devices;
    const devices = Object.entries({ camera, microphone });
    const failures = devices.filter(([, state]) => FAULTY_STATES.includes(state) || state === "muted").map(([device, state]) => `${device} ${state}`);
    const working = devices.filter(([, state]) => state === "ok").map(([device]) => device);
    if (failures.length) {
      const kind = FAULTY_STATES.includes(camera) || FAULTY_STATES.includes(microphone) ? "bad" : "note";
      const effect = working.length ? `${working[0]} only` : "no input";
      return { text: capitalize(`${failures.join(", ")}: ${effect}`), kind };
    }
    const p99 = this.status?.latency.capture_to_event?.p99_ms;
    if (p99 > HIGH_LATENCY_MS) return { text: `High latency: 99 % of events within ${Math.round(p99)} ms`, kind: "note" };
    return { text: "", kind: "" };
  }

  drawNow(data) {
    const label = this.part("label").parentElement;
    label.toggleAttribute("data-none", data.label === null);
    if (data.label !== null) this.part("swatch").style.setProperty("--of", this.css(data.label));
    this.write("label", data.label ?? STATE_TEXTS[data.state] ?? data.state);
    this.write("confidence", data.label === null ? "\u00a0" : `${percent(data.confidence)} confidence`);
    this.write("from", this.describeInput(data));
  }

  describeInput(data) {
    const names = { face: "face", speech: "voice" };
    if (data.modalities.length) return `From ${data.modalities.map((modality) => names[modality]).join(" and ")}`;
    return capitalize(Object.entries(NO_RESULT_TEXTS).map(([device, texts]) => texts[data.devices[device]]).join(", "));
  }

  drawRows(data) {
    const sources = [data.probabilities, data.probabilities, data.face?.probabilities, data.speech?.probabilities];
    this.labels.forEach((label, k) => {
      const { row, bar, cells, now } = this.rows[k];
      sources.forEach((source, column) => {
        const p = source?.[label];
        const text = p === undefined ? "–" : column ? percent(p) : String(Math.round(p * 500) / 500);
        if (now[column] === text) return;
        now[column] = text;
        if (column === 0) bar.style.transform = `scaleX(${p ?? 0})`;
        else cells[column].textContent = text;
      });
      row.toggleAttribute("data-is-label", data.label === label);
    });
  }

  drawFaces(data) {
    const [width, height] = data.frame_wh ?? this.frame ?? [640, 480];
    this.frame = [width, height];
    const svg = this.part("frame");
    const box = `0 0 ${width} ${height}`;
    if (svg.getAttribute("viewBox") !== box) svg.setAttribute("viewBox", box);
    while (this.rects.length < data.faces.length + 1) this.rects.push(this.rect(svg, this.rects.length === 0));
    this.rects.forEach(({ rect, text }, k) => {
      const face = k === 0 ? { id: "", box_xywh: [1, 1, width - 2, height - 2] } : data.faces[k - 1];
      rect.toggleAttribute("hidden", !face);
      rect.style.display = text.style.display = face ? "" : "none";
      if (!face) return;
      const [x, y, w, h] = face.box_xywh;
      for (const [name, value] of Object.entries({ x, y, width: w, height: h })) rect.setAttribute(name, value);
      text.setAttribute("x", x + height * 0.015);
      text.setAttribute("y", y - height * 0.02 < height * 0.06 ? y + height * 0.065 : y - height * 0.02);
      text.setAttribute("font-size", height * 0.055);
      text.textContent = face.id === "" ? "" : `face ${face.id}`;
      if (k) rect.setAttribute("class", k === 1 ? "first" : "more");
    });
    const count = data.faces.length;
    const isWorking = data.devices.camera === "ok";
    const text = isWorking ? `${count} face${count === 1 ? "" : "s"} in view` : NO_RESULT_TEXTS.camera[data.devices.camera];
    this.write("faces", `${text}${data.frame_wh ? `, ${width} × ${height}` : ""}`);
    this.drawPreview();
  }

  rect(svg, isEdge) {
    const rect = document.createElementNS(SVG, "rect");
    const text = document.createElementNS(SVG, "text");
    rect.setAttribute("class", isEdge ? "edge" : "more");
    svg.append(rect, text);
    return { rect, text };
  }

  // With --preview only: draw the newest camera image under the boxes. The page does not store it.
  async drawPreview() {
    if (!this.options.hasPreview() || this.fetching) return;
    this.fetching = true;
    try {
      const response = await fetch(`/api/v1/preview?stream=${encodeURIComponent(this.name)}`);
      const canvas = this.part("picture");
      if (response.status === 200) {
        const image = await createImageBitmap(await response.blob());
        canvas.width = image.width;
        canvas.height = image.height;
        canvas.getContext("2d").drawImage(image, 0, 0);
        image.close();
      }
      canvas.hidden = response.status !== 200;
    } catch {
      this.part("picture").hidden = true;
    } finally {
      this.fetching = false;
    }
  }

  drawBranch(name, view, isUsed, device) {
    if (!view) {
      const state = this.emotion.devices[device];
      const hasUnusableFace = name === "face" && this.emotion.faces.length > 0 && state === "ok";
      this.write(`${name}-says`, "–");
      this.write(`${name}-note`, hasUnusableFace ? "face in view, no usable result" : NO_RESULT_TEXTS[device][state]);
      return;
    }
    this.write(`${name}-says`, `${view.label}, ${percent(view.probabilities[view.label])}`);
    this.write(`${name}-note`, `${isUsed ? "used" : "not used"}, ${Math.round(view.age_ms)} ms old`);
  }

  drawLevel(data) {
    const level = this.gauge?.level_dbfs ?? this.status?.level_dbfs ?? null;
    const state = data.devices.microphone;
    const hasLevel = state === "ok" && level !== null;
    const fraction = hasLevel ? Math.min(1, Math.max(0, 1 - level / MIN_LEVEL_DBFS)) : 0;
    this.part("meter").style.transform = `scaleX(${fraction.toFixed(3)})`;
    const activity = data.speech && data.speech.age_ms < SPEAKING_MS ? "speech" : "no speech";
    const text = hasLevel ? `${Math.round(level)} dBFS, ${activity}` : activity;
    this.write("level", state === "ok" ? text : NO_RESULT_TEXTS.microphone[state]);
  }

  drawDevices(devices) {
    for (const button of this.element.querySelectorAll("button[data-device]")) {
      const device = button.dataset.device;
      const state = devices[device];
      const canMute = this.options.canMute() && state !== "absent" && !this.isOld;
      button.disabled = !canMute;
      button.setAttribute("aria-pressed", String(state === "muted"));
      button.dataset.state = state;
      this.write(device, `${DEVICE_NAMES[device]} ${{ ok: "on", lost: "lost", frozen: "frozen", muted: "muted", absent: "absent" }[state]}`);
      this.write(`${device}-do`, canMute ? (state === "muted" ? "unmute" : "mute") : "");
    }
  }

  drawFigures(data) {
    const latency = this.status?.latency.capture_to_event;
    const milliseconds = latency?.p50_ms ?? data.latency_ms;
    this.write("latency", milliseconds === null ? "–" : `${milliseconds.toFixed(1)} ms`);
    this.write("p99", latency ? `${latency.p99_ms.toFixed(1)} ms` : "–");
    this.write("cpu", this.gauge ? `${this.gauge.cpu_percent.toFixed(1)} % of a core` : "–");
    const times = this.recentTimes;
    const spanS = times.length > 5 ? (times[times.length - 1] - times[0]) / 1000 : 0;
    this.write("rate", spanS > 0 ? `${((times.length - 1) / spanS).toFixed(1)} per second` : "–");
    const dropped = Object.entries(this.status?.dropped ?? {}).filter(([, count]) => count > 0);
    this.write("drops", this.status ? this.summarizeDrops(dropped) : "–");
    const lines = dropped.map(([reason, count]) => {
      const name = reason.replaceAll("_", " ") + (reason === BY_DESIGN ? " (by design)" : "");
      return `${name}: ${integer.format(count)}`;
    });
    const list = lines.join("\n") || "none";
    if (this.written.get("drop-list") !== list) {
      this.written.set("drop-list", list);
      this.part("drop-list").replaceChildren(
        ...list.split("\n").map((line) => Object.assign(document.createElement("li"), { textContent: line })),
      );
    }
  }

  // Sum the drops by unit: frames, seconds of audio, others.
  summarizeDrops(dropped) {
    const sums = { frames: 0, samples: 0, others: 0 };
    for (const [reason, count] of dropped) {
      const unit = reason.split("_")[0];
      if (reason !== BY_DESIGN) sums[unit in sums ? unit : "others"] += count;
    }
    const parts = [];
    if (sums.frames) parts.push(`${integer.format(sums.frames)} frame${sums.frames === 1 ? "" : "s"}`);
    if (sums.samples) parts.push(`${(sums.samples / SAMPLE_RATE_HZ).toFixed(1)} s of audio`);
    if (sums.others) parts.push(`${integer.format(sums.others)} other`);
    return parts.join(", ") || "none";
  }

  // Announce a change to screen readers, at most once in ANNOUNCE_INTERVAL_MS.
  announceChange(data) {
    const text = this.findProblem().text || (data.label ?? STATE_TEXTS[data.state]);
    const now = performance.now();
    if (text === this.announced || now - this.announcedMs < ANNOUNCE_INTERVAL_MS) return;
    this.announced = text;
    this.announcedMs = now;
    this.options.announce(`${this.name}: ${text}`);
    this.part("timeline").setAttribute("aria-label", `Probabilities over the last two minutes; now ${text}`);
  }

  toggle(device) {
    this.options.mute(this.name, device, this.emotion?.devices[device] !== "muted");
  }
}
