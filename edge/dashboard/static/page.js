// Connects to the daemon that served this page, and again whenever the connection is lost; hands each message to its stream.

import { Stream } from "/stream.js";

const FIRST_WAIT_MS = 400;
const LAST_WAIT_MS = 4_000;
const TICK_MS = 500; // how often the age of what is shown is looked at

const byId = (id) => document.getElementById(id);
const pristine = byId("streams").firstElementChild.cloneNode(true);
const streams = new Map();
let hello = null;
let build = null;
let waitMs = FIRST_WAIT_MS;
let socket = null;
let isDue = false;

function streamOf(source) {
  const name = source.split("/").slice(2, 4).join("/");
  let stream = streams.get(name);
  if (!stream) {
    // The first stream takes the card that the page came with, so that nothing jumps; each further one a copy.
    const element = streams.size ? pristine.cloneNode(true) : byId("streams").firstElementChild;
    stream = new Stream(name, element, {
      mute,
      say: (text) => { byId("said").textContent = text; },
      preview: () => hello?.previews.includes(name) ?? false,
      mayMute: () => hello?.may_mute.includes(name) ?? false,
    });
    byId("streams").append(element);
    streams.set(name, stream);
  }
  return stream;
}

const TAKE = {
  "moodring.page.hello.v1": (message) => {
    if (build !== null && build !== message.build) location.reload(); // the daemon was replaced by another version
    build = message.build;
    hello = message;
    byId("preview-mark").hidden = message.previews.length === 0;
    const words = { live: "", recording: "a recording: ", events: "recorded events, not live: " }[message.mode];
    byId("title").textContent = words && words + message.title;
  },
  "moodring.page.history.v1": (message) => streamOf(message.source).takeHistory(message),
  "moodring.page.gauge.v1": (message) => streamOf(message.source).takeGauge(message),
  "moodring.emotion.v1": (message) => streamOf(message.source).takeEmotion(message),
  "moodring.status.v1": (message) => streamOf(message.source).takeStatus(message),
};

// However many messages come, a frame is drawn at most once, and none while nothing comes.
function drawSoon() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    for (const stream of streams.values()) stream.draw();
  });
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`);
  socket.addEventListener("message", ({ data }) => {
    const message = JSON.parse(data);
    TAKE[message.type]?.(message);
    waitMs = FIRST_WAIT_MS;
    showConnection();
    drawSoon();
  });
  socket.addEventListener("close", () => {
    socket = null;
    showConnection();
    setTimeout(again, waitMs * (0.8 + 0.4 * Math.random()));
    waitMs = Math.min(2 * waitMs, LAST_WAIT_MS);
  });
}

// A WebSocket does not tell why it was refused; a plain request does.
async function again() {
  try {
    const answer = await fetch("/api/v1/state", { method: "HEAD" });
    if (answer.status === 401) {
      byId("login").hidden = false;
      byId("token").focus();
      return;
    }
  } catch {
    // nobody there: the attempt to connect says so
  }
  connect();
}

function showConnection() {
  const old = [...streams.values()].some((stream) => stream.isOld);
  const open = socket !== null && socket.readyState === WebSocket.OPEN;
  const state = open ? (old ? "old" : streams.size ? "live" : "wait") : hello ? "off" : "wait";
  const words = { live: hello?.mode === "live" ? "live" : "playing", old: "showing old data", off: "no connection; trying again", wait: open ? "waiting for events" : "connecting" };
  if (byId("connection").dataset.state !== state) byId("connection").dataset.state = state;
  if (byId("connection-text").textContent !== words[state]) byId("connection-text").textContent = words[state];
  byId("streams").setAttribute("aria-busy", String(state === "wait"));
}

async function mute(stream, device, muted) {
  const answer = await fetch("/api/v1/mute", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Moodring-Anti-Forgery": hello.anti_forgery },
    body: JSON.stringify({ stream, device, muted }),
  }).catch(() => null);
  if (!answer?.ok) byId("said").textContent = `${device} could not be ${muted ? "muted" : "unmuted"}`;
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/api/v1/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token: byId("token").value }),
  }).catch(() => null);
  byId("login-trouble").textContent = answer?.ok ? "" : answer ? "That is not the token." : "moodring does not answer.";
  if (!answer?.ok) return;
  byId("token").value = "";
  byId("login").hidden = true;
  connect();
});

setInterval(() => {
  for (const stream of streams.values()) if (stream.emotion) stream.drawAge();
  showConnection();
}, TICK_MS);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSoon);

connect();
