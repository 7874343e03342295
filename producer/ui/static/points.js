"use strict";

// The points of a map: taken out of their bytes, drawn, and found again. They are drawn pixel by
// pixel into memory: 100,000 take 10 ms on one core, with a GPU or without.

function unpacked(buffer) {
  const [headBytes, count] = new Uint32Array(buffer, 0, 2);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, headBytes)));
  let at = 8 + headBytes;
  const next = (Kind) => {
    const list = new Kind(buffer, at, count);
    at += list.byteLength;
    return list;
  };
  const ids = next(head.wide ? Float64Array : Uint32Array);
  return { ...head, count, ids, x: next(Float32Array), y: next(Float32Array), category: next(Int16Array), tag: next(Int16Array) };
}

// What a browser may do in one piece, so that it answers to hand and key in between.
const SLICE_MS = 20;
// Of more points each is a plain square of pixels: nobody sees the edges of so many.
const SOFT_POINTS = 30000;
const LARGER = 1.5; // as large are points with a picture, where not all have one

class Plane {
  constructor(canvas, points) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.points = points;
    this.group = new Uint16Array(points.count); // which ink each point has
    this.inks = new Uint32Array(1);
    this.lit = null; // Uint8Array by point: these alone have their ink
    this.large = new Uint8Array(points.count); // these are drawn larger
    this.view = { x: 0, y: 0, scale: 1 }; // what is in the middle, and pixels of the screen a unit
    this.frame = 0;
    this.drawnMs = 0;
  }

  // The size that the page gives it; false where it has none yet.
  resize() {
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    this.width = Math.round(this.canvas.clientWidth * this.ratio);
    this.height = Math.round(this.canvas.clientHeight * this.ratio);
    if (!this.width || !this.height) return false;
    this.canvas.width = this.width;
    this.canvas.height = this.height;
    this.image = null;
    return true;
  }

  // Show all points.
  fit() {
    const { x, y, count } = this.points;
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < count; i++) {
      if (x[i] < left) left = x[i];
      if (x[i] > right) right = x[i];
      if (y[i] < low) low = y[i];
      if (y[i] > high) high = y[i];
    }
    const span = (from, to, size) => (0.92 * size) / (to - from || 1);
    const across = span(left, right, this.canvas.clientWidth);
    const up = span(low, high, this.canvas.clientHeight);
    this.whole = Math.min(across, up);
    this.view = { x: (left + right) / 2, y: (low + high) / 2, scale: this.whole };
    this.draw();
  }

  move(dx, dy) {
    this.view.x -= dx / this.view.scale;
    this.view.y += dy / this.view.scale;
    this.draw();
  }

  // The point under (px, py) stays where it is.
  zoom(factor, px = this.canvas.clientWidth / 2, py = this.canvas.clientHeight / 2) {
    const scale = Math.min(5000 * this.whole, Math.max(0.2 * this.whole, this.view.scale * factor));
    const [dx, dy] = [px - this.canvas.clientWidth / 2, py - this.canvas.clientHeight / 2];
    this.view.x += dx / this.view.scale - dx / scale;
    this.view.y -= dy / this.view.scale - dy / scale;
    this.view.scale = scale;
    this.draw();
  }

  // From the beginning, with the next frame; whatever was half drawn is left.
  draw() {
    this.at = 0;
    this.drawnMs = 0;
    this.begin = true;
    if (!this.frame) this.frame = requestAnimationFrame(() => this.slice());
  }

  radius() {
    const { count } = this.points;
    const base = count > 20000 ? 1.3 : count > 2000 ? 2.2 : 3.6;
    return Math.min(6, base * Math.sqrt(Math.max(1, this.view.scale / this.whole))) * this.ratio;
  }

  slice() {
    this.frame = 0;
    const started = performance.now();
    if (this.begin) this.clear();
    const end = 2 * this.points.count;
    while (this.at < end && performance.now() - started < SLICE_MS) {
      this.at = this.paint(this.at, Math.min(end, this.at + 4096));
    }
    this.context.putImageData(this.image, -this.margin, -this.margin);
    this.drawnMs += performance.now() - started;
    if (this.at < end) this.frame = requestAnimationFrame(() => this.slice());
  }

  clear() {
    this.begin = false;
    const size = this.radius();
    this.margin = Math.ceil(LARGER * size) + 1;
    this.stride = this.width + 2 * this.margin;
    const rows = this.height + 2 * this.margin;
    if (!this.image || this.image.width !== this.stride || this.image.height !== rows) {
      this.image = this.context.createImageData(this.stride, rows);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    this.pixels.fill(this.paper);
    const soft = this.points.count <= SOFT_POINTS;
    this.discs = [disc(size, this.stride, soft), disc(LARGER * size, this.stride, soft)];
  }

  // Twice through all points: what is not lit lies below what is.
  paint(from, to) {
    const { x, y, count } = this.points;
    const { group, inks, lit, large, pixels, stride, discs, view, ratio, margin } = this;
    const scale = view.scale * ratio;
    const [middleX, middleY] = [this.width / 2 + margin, this.height / 2 + margin];
    const [right, low] = [this.width + margin, this.height + margin];
    for (let n = from; n < to; n++) {
      const below = n < count;
      const i = below ? n : n - count;
      if (below === (lit === null || lit[i] === 1)) continue;
      const px = Math.round(middleX + (x[i] - view.x) * scale);
      const py = Math.round(middleY - (y[i] - view.y) * scale);
      if (px < margin || py < margin || px >= right || py >= low) continue;
      const ink = below ? this.faint : inks[group[i]];
      const { whole, edges, shares } = discs[large[i]];
      const at = py * stride + px;
      for (let k = 0; k < whole.length; k++) pixels[at + whole[k]] = ink;
      for (let k = 0; k < edges.length; k++) {
        pixels[at + edges[k]] = mixed(pixels[at + edges[k]], ink, shares[k]);
      }
    }
    return to;
  }

  // Where a point is, in pixels of the page from the upper left corner.
  place(i) {
    const { x, y } = this.points;
    return [
      this.canvas.clientWidth / 2 + (x[i] - this.view.x) * this.view.scale,
      this.canvas.clientHeight / 2 - (y[i] - this.view.y) * this.view.scale,
    ];
  }

  // The point nearest to (px, py), -1 where none is within `reach` pixels.
  nearest(px, py, reach) {
    const { x, y, count } = this.points;
    const { scale } = this.view;
    const atX = this.view.x + (px - this.canvas.clientWidth / 2) / scale;
    const atY = this.view.y - (py - this.canvas.clientHeight / 2) / scale;
    let [found, best] = [-1, (reach / scale) ** 2];
    for (let i = 0; i < count; i++) {
      const far = (x[i] - atX) ** 2 + (y[i] - atY) ** 2;
      if (far <= best && (this.lit === null || this.lit[i])) [found, best] = [i, far];
    }
    return found;
  }

  // 1 for each point in the rectangle between two corners, in pixels of the page.
  within(x0, y0, x1, y1) {
    const { x, y, count } = this.points;
    const { scale } = this.view;
    const [width, height] = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)].map((px) => this.view.x + (px - width) / scale);
    const [low, high] = [Math.max(y0, y1), Math.min(y0, y1)].map((py) => this.view.y - (py - height) / scale);
    const mask = new Uint8Array(count);
    for (let i = 0; i < count; i++) {
      mask[i] = x[i] >= left && x[i] <= right && y[i] >= low && y[i] <= high ? 1 : 0;
    }
    return mask;
  }
}

// The pixels of a disc, as steps from the one in its middle: those it covers, and, where it is to
// be soft, those it covers in part, with their share of 256.
function disc(radius, stride, soft) {
  const [whole, edges, shares] = [[], [], []];
  const reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const cover = radius + 0.5 - Math.hypot(dx, dy);
      if (cover >= 1 || (!soft && cover > 0.5)) whole.push(dy * stride + dx);
      else if (soft && cover > 0) {
        edges.push(dy * stride + dx);
        shares.push(Math.round(256 * cover));
      }
    }
  }
  return { whole: Int32Array.from(whole), edges: Int32Array.from(edges), shares: Uint16Array.from(shares) };
}

function mixed(below, ink, share) {
  const [rest, odd, even] = [256 - share, 0xff00ff, 0x00ff00];
  const red = (((below & odd) * rest + (ink & odd) * share) >>> 8) & odd;
  const green = (((below & even) * rest + (ink & even) * share) >>> 8) & even;
  return (0xff000000 | red | green) >>> 0;
}
