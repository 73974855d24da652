// Timeline: probabilities of the last two minutes as stacked areas. Points are stored in a ring of typed arrays.

const SPAN_MS = 120_000;
const GAP_MS = 1_600; // a longer interval between two points stays blank
const CAPACITY = 2048;

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.times = new Float64Array(CAPACITY);
    this.begin = 0;
    this.count = 0;
    this.setColors([]);
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  // Set one colour for each probability, a CSS colour or the name of a property of the style sheet, and clear the timeline.
  setColors(colors) {
    this.colors = colors;
    this.points = new Float32Array(CAPACITY * colors.length); // cumulative sums; the first is NaN if there is no label
    this.clear();
  }

  clear() {
    this.count = 0;
  }

  get newest() {
    return this.count ? this.times[(this.begin + this.count - 1) % CAPACITY] : -Infinity;
  }

  push(timeMs, probabilities) {
    if (timeMs < this.newest) this.clear(); // a recording restarted
    const slot = (this.begin + this.count) % CAPACITY;
    if (this.count === CAPACITY) this.begin = (this.begin + 1) % CAPACITY;
    else this.count += 1;
    const n = this.colors.length;
    this.times[slot] = timeMs;
    let sum = 0;
    for (let i = 0; i < n; i += 1) {
      sum += probabilities ? probabilities[i] : NaN;
      this.points[slot * n + i] = sum;
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

  // Return lists of consecutive labelled points. A gap ends a list.
  segments() {
    const segments = [];
    let segment = null;
    let previousMs = -Infinity;
    for (let k = 0; k < this.count; k += 1) {
      const slot = (this.begin + k) % CAPACITY;
      if (Number.isNaN(this.points[slot * this.colors.length])) {
        segment = null;
        continue;
      }
      if (segment === null || this.times[slot] - previousMs > GAP_MS) {
        segment = [];
        segments.push(segment);
      }
      segment.push(slot);
      previousMs = this.times[slot];
    }
    return segments;
  }

  draw() {
    const style = getComputedStyle(this.canvas);
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    const n = this.colors.length;
    context.clearRect(0, 0, width, height);
    context.fillStyle = style.getPropertyValue("--track");
    context.fillRect(0, 0, width, height);
    const end = this.newest;
    const x = (slot) => width - ((end - this.times[slot]) / SPAN_MS) * width;
    for (const segment of this.segments()) {
      const [first] = segment;
      const last = segment[segment.length - 1];
      const isSingle = segment.length === 1;
      const minWidth = Math.max(1, width / 400); // of a single point
      for (let i = n - 1; i >= 0; i -= 1) {
        context.beginPath();
        context.moveTo(x(first) - (isSingle ? minWidth : 0), height);
        if (isSingle) context.lineTo(x(first) - minWidth, height - this.points[first * n + i] * height);
        for (const slot of segment) context.lineTo(x(slot), height - Math.min(1, this.points[slot * n + i]) * height);
        context.lineTo(x(last), height);
        const color = this.colors[i];
        context.fillStyle = color.startsWith("--") ? style.getPropertyValue(color) : color;
        context.fill();
      }
    }
    context.fillStyle = style.getPropertyValue("--panel");
    for (const part of [0.25, 0.5, 0.75]) context.fillRect(Math.round(width * part), 0, Math.max(1, width / 1600), height);
  }
}
