// Two minutes of probabilities as stacked areas. Points live in typed arrays; a frame is drawn only when something came.

const SPAN_MS = 120_000;
const GAP_MS = 1_600; // longer than this between two points is a gap, not a slope
const CAPACITY = 2048;

export class Timeline {
  constructor(canvas, labels) {
    this.canvas = canvas;
    this.labels = labels;
    this.times = new Float64Array(CAPACITY);
    this.points = new Float32Array(CAPACITY * labels.length); // cumulated; NaN first: no answer
    this.begin = 0;
    this.count = 0;
    this.drawn = 0;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  clear() {
    this.count = 0;
  }

  get newest() {
    return this.count ? this.times[(this.begin + this.count - 1) % CAPACITY] : -Infinity;
  }

  push(timeMs, probabilities) {
    if (timeMs < this.newest) this.clear(); // a recording that began again
    const at = (this.begin + this.count) % CAPACITY;
    if (this.count === CAPACITY) this.begin = (this.begin + 1) % CAPACITY;
    else this.count += 1;
    const n = this.labels.length;
    this.times[at] = timeMs;
    let sum = 0;
    for (let i = 0; i < n; i += 1) {
      sum += probabilities ? probabilities[i] : NaN;
      this.points[at * n + i] = sum;
    }
    while (this.count > 1 && this.times[this.begin] < timeMs - SPAN_MS - GAP_MS) {
      this.begin = (this.begin + 1) % CAPACITY;
      this.count -= 1;
    }
  }

  resize() {
    const scale = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.draw();
  }

  // Runs of neighbouring points that have an answer: a gap ends one.
  runs() {
    const found = [];
    let run = null;
    let before = -Infinity;
    for (let k = 0; k < this.count; k += 1) {
      const at = (this.begin + k) % CAPACITY;
      if (Number.isNaN(this.points[at * this.labels.length])) {
        run = null;
        continue;
      }
      if (run === null || this.times[at] - before > GAP_MS) {
        run = [];
        found.push(run);
      }
      run.push(at);
      before = this.times[at];
    }
    return found;
  }

  draw() {
    const style = getComputedStyle(this.canvas);
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    const n = this.labels.length;
    this.drawn += 1;
    context.clearRect(0, 0, width, height);
    context.fillStyle = style.getPropertyValue("--track");
    context.fillRect(0, 0, width, height);
    const end = this.newest;
    const x = (at) => width - ((end - this.times[at]) / SPAN_MS) * width;
    for (const run of this.runs()) {
      const least = Math.max(1, width / 400); // of one answer by itself
      for (let i = n - 1; i >= 0; i -= 1) {
        context.beginPath();
        context.moveTo(x(run[0]) - (run.length === 1 ? least : 0), height);
        if (run.length === 1) context.lineTo(x(run[0]) - least, height - this.points[run[0] * n + i] * height);
        for (const at of run) context.lineTo(x(at), height - Math.min(1, this.points[at * n + i]) * height);
        context.lineTo(x(run[run.length - 1]), height);
        context.fillStyle = style.getPropertyValue(`--${this.labels[i]}`);
        context.fill();
      }
    }
    context.fillStyle = style.getPropertyValue("--panel");
    for (const part of [0.25, 0.5, 0.75]) context.fillRect(Math.round(width * part), 0, Math.max(1, width / 1600), height);
  }
}
