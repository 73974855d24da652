// Connection to the server: receives the messages, passes each to its stream, and reconnects with back-off.

import { Stream } from "/stream.js";

const MIN_BACKOFF_MS = 400;
const MAX_BACKOFF_MS = 4_000;
const TICK_MS = 500; // interval at which the age of the data is checked

const byId = (id) => document.getElementById(id);
const template = byId("streams").firstElementChild.cloneNode(true);
const streams = new Map();
let hello = null;
let build = null;
let backoffMs = MIN_BACKOFF_MS;
let socket = null;
let isDrawScheduled = false;

function getStream(source) {
  const name = source.split("/").slice(2, 4).join("/");
  let stream = streams.get(name);
  if (!stream) {
    // The first stream uses the card of the HTML file, so that the layout does not shift. Each other stream uses a copy.
    const element = streams.size ? template.cloneNode(true) : byId("streams").firstElementChild;
    stream = new Stream(name, element, {
      mute,
      announce: (text) => { byId("said").textContent = text; },
      hasPreview: () => hello?.previews.includes(name) ?? false,
      canMute: () => hello?.may_mute.includes(name) ?? false,
    });
    byId("streams").append(element);
    streams.set(name, stream);
  }
  return stream;
}

const HANDLERS = {
  "moodring.page.hello.v1": (message) => {
    if (build !== null && build !== message.build) location.reload(); // the server has another version now
    build = message.build;
    hello = message;
    byId("preview-mark").hidden = message.previews.length === 0;
    const prefix = { live: "", recording: "recording: ", events: "recorded events, not live: " }[message.mode];
    byId("title").textContent = prefix && prefix + message.title;
  },
  "moodring.page.history.v1": (message) => getStream(message.source).setHistory(message),
  "moodring.page.gauge.v1": (message) => getStream(message.source).setGauge(message),
  "moodring.emotion.v1": (message) => getStream(message.source).addEmotion(message),
  "moodring.status.v1": (message) => getStream(message.source).setStatus(message),
};

// Draw at most once for each frame of the screen, and only after a message.
function scheduleDraw() {
  if (isDrawScheduled) return;
  isDrawScheduled = true;
  requestAnimationFrame(() => {
    isDrawScheduled = false;
    for (const stream of streams.values()) stream.draw();
  });
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`);
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    HANDLERS[message.type]?.(message);
    backoffMs = MIN_BACKOFF_MS;
    drawConnection();
    scheduleDraw();
  });
  socket.addEventListener("close", () => {
    socket = null;
    drawConnection();
    setTimeout(reconnect, backoffMs * (0.8 + 0.4 * Math.random()));
    backoffMs = Math.min(2 * backoffMs, MAX_BACKOFF_MS);
  });
}

// A rejected WebSocket gives no status; a plain request does.
async function reconnect() {
  try {
    const response = await fetch("/api/v1/state", { method: "HEAD" });
    if (response.status === 401) {
      byId("login").hidden = false;
      byId("token").focus();
      return;
    }
  } catch {
    // The server does not respond; `connect` fails too and tries again later.
  }
  connect();
}

function drawConnection() {
  const isOld = [...streams.values()].some((stream) => stream.isOld);
  const isOpen = socket !== null && socket.readyState === WebSocket.OPEN;
  const state = isOpen ? (isOld ? "old" : streams.size ? "live" : "wait") : hello ? "off" : "wait";
  const texts = {
    live: hello?.mode === "live" ? "live" : "playing",
    old: "showing old data",
    off: "no connection; reconnecting",
    wait: isOpen ? "waiting for events" : "connecting",
  };
  if (byId("connection").dataset.state !== state) byId("connection").dataset.state = state;
  if (byId("connection-text").textContent !== texts[state]) byId("connection-text").textContent = texts[state];
  byId("streams").setAttribute("aria-busy", String(state === "wait"));
}

async function mute(stream, device, muted) {
  const response = await fetch("/api/v1/mute", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Moodring-Anti-Forgery": hello.anti_forgery },
    body: JSON.stringify({ stream, device, muted }),
  }).catch(() => null);
  if (!response?.ok) byId("said").textContent = `${device} could not be ${muted ? "muted" : "unmuted"}`;
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const response = await fetch("/api/v1/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token: byId("token").value }),
  }).catch(() => null);
  byId("login-trouble").textContent = response?.ok ? "" : response ? "The token is wrong." : "moodring does not respond.";
  if (!response?.ok) return;
  byId("token").value = "";
  byId("login").hidden = true;
  connect();
});

setInterval(() => {
  for (const stream of streams.values()) if (stream.emotion) stream.drawAge();
  drawConnection();
}, TICK_MS);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", scheduleDraw);

connect();
