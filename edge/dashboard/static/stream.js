// One stream: a card that shows what its events say. It writes to the page only where something changed.

import { Timeline } from "/timeline.js";

export const LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "calm"];
const OLD_MS = 2_500; // without an event for longer than this a stream shows old data
const LATE_MS = 500; // a p99 above this is worth a word
const SAY_EVERY_MS = 5_000; // to screen readers
const SPEAKING_MS = 700; // since a voice was heard
const QUIETEST_DB = -60;
const RATE_HZ = 16_000; // of the sound that moodring hears
const BY_DESIGN = "frames_above_rate"; // not looked at because newer ones come soon enough
const SVG = "http://www.w3.org/2000/svg";
const NAMES = { camera: ["Camera", "picture"], microphone: ["Microphone", "sound"] };
const NOTHING = {
  no_signal: "No signal",
  no_face: "No face in view",
  no_speech: "Nobody speaks",
};
const percent = (p) => `${Math.round(100 * p)} %`;
const whole = new Intl.NumberFormat("en");

export class Stream {
  constructor(name, element, { mute, say, preview, mayMute }) {
    this.name = name;
    this.options = { mute, say, preview, mayMute };
    this.element = element;
    this.parts = new Map([...this.element.querySelectorAll("[data-is]")].map((part) => [part.dataset.is, part]));
    this.written = new Map();
    this.rows = LABELS.map((label, k) => this.row(label, this.element.querySelectorAll("tbody tr")[k]));
    this.timeline = new Timeline(this.part("timeline"), LABELS);
    this.rects = [];
    this.emotion = null;
    this.status = null;
    this.gauge = null;
    this.heardMs = -Infinity;
    this.saidMs = -Infinity;
    this.said = "";
    this.lastTimes = [];
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

  row(label, row) {
    const bar = row.querySelector("i");
    bar.style.setProperty("--of", `var(--${label})`);
    return { row, bar, cells: row.querySelectorAll("td"), now: [] };
  }

  // what comes in

  takeHistory(history) {
    this.timeline.clear();
    history.times_ms.forEach((time, k) => {
      const point = history.per_mille[k];
      this.timeline.push(time, point && point.map((p) => p / 1000));
    });
  }

  takeEmotion(event) {
    const data = event.data;
    const timeMs = Date.parse(event.time);
    if (this.emotion === null || timeMs > this.timeline.newest || timeMs < this.timeline.newest - 1000) {
      this.timeline.push(timeMs, data.probabilities && LABELS.map((label) => data.probabilities[label] ?? 0));
    }
    this.emotion = data;
    this.heardMs = performance.now();
    this.lastTimes.push(timeMs);
    if (this.lastTimes.length > 26) this.lastTimes.shift();
  }

  takeStatus(status) {
    this.status = status.data;
  }

  takeGauge(gauge) {
    this.gauge = gauge;
  }

  get isOld() {
    return performance.now() - this.heardMs > OLD_MS;
  }

  // what is shown

  draw() {
    const data = this.emotion;
    if (data === null) return;
    this.drawAge();
    this.drawNow(data);
    this.drawRows(data);
    this.drawFaces(data);
    this.drawBranch("face", data.face, data.modalities.includes("face"), data.devices.camera);
    this.drawBranch("voice", data.speech, data.modalities.includes("speech"), data.devices.microphone);
    this.drawLevel(data);
    this.drawDevices(data.devices);
    this.drawFigures(data);
    this.timeline.draw();
    this.tellReaders(data);
  }

  drawAge() {
    this.element.toggleAttribute("data-old", this.isOld);
    const trouble = this.trouble();
    this.write("trouble", trouble.text);
    this.part("trouble").dataset.kind = trouble.kind;
  }

  // The one thing that a person should know first, in words.
  trouble() {
    if (this.emotion === null) return { text: "", kind: "" };
    if (this.isOld) {
      const seconds = Math.round((performance.now() - this.heardMs) / 1000);
      return { text: `Old data: the last event came ${seconds} s ago`, kind: "bad" };
    }
    const { camera, microphone } = this.emotion.devices;
    const parts = [];
    for (const [device, state] of [["camera", camera], ["microphone", microphone]]) {
      if (state === "lost") parts.push(`${device} lost`);
      if (state === "muted") parts.push(`${NAMES[device][1]} muted`);
    }
    const works = [camera === "ok" && "picture", microphone === "ok" && "sound"].filter(Boolean);
    if (parts.length) {
      const kind = camera === "lost" || microphone === "lost" ? "bad" : "note";
      const rest = works.length ? `degraded: ${works[0]} only` : "nothing is sensed";
      const text = `${parts.join(", ")}; ${rest}`;
      return { text: text[0].toUpperCase() + text.slice(1), kind };
    }
    const p99 = this.status?.latency.capture_to_event?.p99_ms;
    if (p99 > LATE_MS) return { text: `Degraded: answers come late (99 % within ${Math.round(p99)} ms)`, kind: "note" };
    return { text: "", kind: "" };
  }

  drawNow(data) {
    const label = this.part("label").parentElement;
    label.toggleAttribute("data-none", data.label === null);
    if (data.label !== null) this.part("swatch").style.setProperty("--of", `var(--${data.label})`);
    this.write("label", data.label ?? NOTHING[data.state] ?? data.state);
    this.write("confidence", data.label === null ? "\u00a0" : `${percent(data.confidence)} sure`);
    this.write("from", this.from(data));
  }

  from(data) {
    const names = { face: "the face", speech: "the voice" };
    if (data.modalities.length) return `From ${data.modalities.map((one) => names[one]).join(" and ")}.`;
    const { camera, microphone } = data.devices;
    const words = [];
    words.push({ ok: "No face in view", lost: "Camera lost", muted: "Picture muted", absent: "No camera" }[camera]);
    words.push({ ok: "nobody speaks", lost: "microphone lost", muted: "sound muted", absent: "no microphone" }[microphone]);
    return `${words.join(", ")}.`;
  }

  drawRows(data) {
    const sources = [data.probabilities, data.probabilities, data.face?.probabilities, data.speech?.probabilities];
    LABELS.forEach((label, k) => {
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
    const seen = { ok: `${count} face${count === 1 ? "" : "s"} in view`, lost: "camera lost", muted: "picture muted", absent: "no camera" };
    this.write("faces", `${seen[data.devices.camera]}${data.frame_wh ? `, ${width} × ${height}` : ""}`);
    this.drawPicture();
  }

  rect(svg, isEdge) {
    const rect = document.createElementNS(SVG, "rect");
    const text = document.createElementNS(SVG, "text");
    rect.setAttribute("class", isEdge ? "edge" : "more");
    svg.append(rect, text);
    return { rect, text };
  }

  // Only where the command line asked for a preview: the newest picture, drawn under the boxes and kept nowhere.
  async drawPicture() {
    if (!this.options.preview() || this.fetching) return;
    this.fetching = true;
    try {
      const answer = await fetch(`/api/v1/preview?stream=${encodeURIComponent(this.name)}`);
      const canvas = this.part("picture");
      if (answer.status === 200) {
        const picture = await createImageBitmap(await answer.blob());
        canvas.width = picture.width;
        canvas.height = picture.height;
        canvas.getContext("2d").drawImage(picture, 0, 0);
        picture.close();
      }
      canvas.hidden = answer.status !== 200;
    } catch {
      this.part("picture").hidden = true;
    } finally {
      this.fetching = false;
    }
  }

  drawBranch(name, view, isUsed, device) {
    if (!view) {
      const words = {
        face: { ok: "no face in view", lost: "camera lost", muted: "picture muted", absent: "no camera" },
        voice: { ok: "nobody speaks", lost: "microphone lost", muted: "sound muted", absent: "no microphone" },
      };
      this.write(`${name}-says`, "–");
      const unfit = name === "face" && this.emotion.faces.length > 0 && device === "ok";
      this.write(`${name}-note`, unfit ? "in view, but not to be read" : words[name][device]);
      return;
    }
    this.write(`${name}-says`, `${view.label}, ${percent(view.probabilities[view.label])}`);
    this.write(`${name}-note`, `${isUsed ? "used" : "not used"}, ${Math.round(view.age_ms)} ms old`);
  }

  drawLevel(data) {
    const level = this.gauge?.level_dbfs ?? this.status?.level_dbfs ?? null;
    const heard = data.devices.microphone === "ok" && level !== null;
    const part = heard ? Math.min(1, Math.max(0, 1 - level / QUIETEST_DB)) : 0;
    this.part("meter").style.transform = `scaleX(${part.toFixed(3)})`;
    const words = { lost: "microphone lost", muted: "sound muted", absent: "no sound" };
    const activity = data.speech && data.speech.age_ms < SPEAKING_MS ? "speaking" : "quiet";
    this.write("level", heard ? `${Math.round(level)} dB, ${activity}` : (words[data.devices.microphone] ?? activity));
  }

  drawDevices(devices) {
    for (const button of this.element.querySelectorAll("button[data-device]")) {
      const device = button.dataset.device;
      const state = devices[device];
      const [name] = NAMES[device];
      const may = this.options.mayMute() && (state !== "absent") && !this.isOld;
      button.disabled = !may;
      button.setAttribute("aria-pressed", String(state === "muted"));
      button.dataset.state = state;
      this.write(device, `${name} ${{ ok: "on", lost: "lost", muted: "muted", absent: "absent" }[state]}`);
      this.write(`${device}-do`, may ? (state === "muted" ? "unmute" : "mute") : "");
    }
  }

  drawFigures(data) {
    const latency = this.status?.latency.capture_to_event;
    const milliseconds = latency?.p50_ms ?? data.latency_ms;
    this.write("latency", milliseconds === null ? "–" : `${milliseconds.toFixed(1)} ms`);
    this.write("p99", latency ? `${latency.p99_ms.toFixed(1)} ms` : "–");
    this.write("cpu", this.gauge ? `${this.gauge.cpu_percent.toFixed(1)} % of a core` : "–");
    const times = this.lastTimes;
    const spanS = times.length > 5 ? (times[times.length - 1] - times[0]) / 1000 : 0;
    this.write("rate", spanS > 0 ? `${((times.length - 1) / spanS).toFixed(1)} a second` : "–");
    const dropped = Object.entries(this.status?.dropped ?? {}).filter(([, count]) => count > 0);
    this.write("drops", this.status ? this.lost(dropped) : "–");
    const list = dropped.map(([reason, count]) => `${reason.replaceAll("_", " ")}${reason === BY_DESIGN ? " (by design)" : ""}: ${whole.format(count)}`).join("\n") || "nothing so far";
    if (this.written.get("drop-list") !== list) {
      this.written.set("drop-list", list);
      this.part("drop-list").replaceChildren(
        ...list.split("\n").map((line) => Object.assign(document.createElement("li"), { textContent: line })),
      );
    }
  }

  // Frames and samples are not to be added up.
  lost(dropped) {
    const sums = { frames: 0, samples: 0, others: 0 };
    for (const [reason, count] of dropped) {
      const unit = reason.split("_")[0];
      if (reason !== BY_DESIGN) sums[unit in sums ? unit : "others"] += count;
    }
    const words = [];
    if (sums.frames) words.push(`${whole.format(sums.frames)} frame${sums.frames === 1 ? "" : "s"}`);
    if (sums.samples) words.push(`${(sums.samples / RATE_HZ).toFixed(1)} s of sound`);
    if (sums.others) words.push(`${whole.format(sums.others)} more`);
    return words.join(", ") || "nothing";
  }

  // A screen reader hears changes, not every event.
  tellReaders(data) {
    const trouble = this.trouble().text;
    const says = trouble || (data.label ?? NOTHING[data.state]);
    const now = performance.now();
    if (says === this.said || now - this.saidMs < SAY_EVERY_MS) return;
    this.said = says;
    this.saidMs = now;
    this.options.say(`${this.name}: ${says}`);
    this.part("timeline").setAttribute("aria-label", `Probabilities over the last two minutes; now ${says}`);
  }

  toggle(device) {
    this.options.mute(this.name, device, this.emotion?.devices[device] !== "muted");
  }
}
