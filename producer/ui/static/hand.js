"use strict";

// The map under a hand: moved, brought nearer, pointed at, with a mouse, fingers or keys.
const STEP_PX = 60;
const REACH_PX = 14;
const DWELL_MS = 90;
let pinned = false; // the card that is shown stays

let asked = 0;
async function point(i, { pin = false } = {}) {
  if (pinned && !pin) return;
  if (i < 0) {
    hideTip();
    return;
  }
  const number = ++asked;
  const tip = at("tip");
  const shown = await cards([i]);
  if (number !== asked) return; // the pointer is elsewhere by now
  pinned = pin;
  tip.replaceChildren(shown.childElementCount ? shown : words(i));
  tip.classList.toggle("pinned", pin);
  tip.hidden = at("ring").hidden = false;
  placeTip(i);
  if (pin) at("said").textContent = tip.querySelector(".name")?.textContent ?? tip.textContent;
}

function placeTip(i) {
  const tip = at("tip");
  const [px, py] = plane.place(i);
  at("ring").style.transform = `translate(${px}px, ${py}px)`;
  const left = Math.max(4, Math.min(px + 14, plane$.clientWidth - tip.offsetWidth - 4));
  const top = py + 14 + tip.offsetHeight > plane$.clientHeight ? py - tip.offsetHeight - 14 : py + 14;
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(Math.max(4, top))}px)`;
}

const pointers = new Map();
let corner = null; // where a rectangle was begun
let moved = false;
let dwelling = 0;

const isSelecting = () => at("select").getAttribute("aria-pressed") === "true";
const where = (event) => {
  const { left, top } = plane.canvas.getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
};

function down(event) {
  if (event.button) return;
  plane.canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, where(event));
  moved = pointers.size > 1;
  corner = pointers.size === 1 && (event.shiftKey || isSelecting()) ? where(event) : null;
}

function move(event) {
  const [px, py] = where(event);
  const before = pointers.get(event.pointerId);
  if (!before) {
    window.clearTimeout(dwelling);
    dwelling = window.setTimeout(() => point(plane.nearest(px, py, REACH_PX)), DWELL_MS);
    return;
  }
  if (!moved && Math.hypot(px - before[0], py - before[1]) < 4) return;
  moved = true;
  hideTip();
  if (corner) return drawBox(corner, [px, py]);
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const apart = (one) => Math.max(8, Math.hypot(one[0] - other[0], one[1] - other[1]));
    plane.zoom(apart([px, py]) / apart(before), (px + other[0]) / 2, (py + other[1]) / 2);
    plane.move((px - before[0]) / 2, (py - before[1]) / 2);
  } else plane.move(px - before[0], py - before[1]);
  pointers.set(event.pointerId, [px, py]);
}

function up(event) {
  if (!pointers.delete(event.pointerId)) return;
  const [px, py] = where(event);
  at("box").hidden = true;
  if (event.type === "pointercancel") corner = null;
  else if (!moved) point(plane.nearest(px, py, event.pointerType === "mouse" ? REACH_PX : 2 * REACH_PX), { pin: true });
  else if (corner) choose(plane.within(...corner, px, py));
  corner = null;
}

function drawBox([x0, y0], [x1, y1]) {
  const box = at("box");
  box.hidden = false;
  box.style.transform = `translate(${Math.min(x0, x1)}px, ${Math.min(y0, y1)}px)`;
  box.style.width = `${Math.abs(x1 - x0)}px`;
  box.style.height = `${Math.abs(y1 - y0)}px`;
}

function hideTip() {
  asked++;
  window.clearTimeout(dwelling);
  at("tip").hidden = at("ring").hidden = true;
  pinned = false;
}

const middle = () => [plane.canvas.clientWidth / 2, plane.canvas.clientHeight / 2];
const KEYS = {
  ArrowLeft: () => plane.move(STEP_PX, 0),
  ArrowRight: () => plane.move(-STEP_PX, 0),
  ArrowUp: () => plane.move(0, STEP_PX),
  ArrowDown: () => plane.move(0, -STEP_PX),
  "+": () => plane.zoom(1.4),
  "=": () => plane.zoom(1.4),
  "-": () => plane.zoom(1 / 1.4),
  0: () => plane.fit(),
  Escape: () => choose(null),
};

function key(event) {
  if (event.target !== plane$ || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter") {
    event.preventDefault();
    const found = plane.nearest(...middle(), 4 * REACH_PX);
    point(found, { pin: true });
    if (found < 0) at("said").textContent = "No video is near the middle";
  } else if (KEYS[event.key]) {
    event.preventDefault();
    hideTip();
    KEYS[event.key]();
  }
}

function listen() {
  const { canvas } = plane;
  canvas.addEventListener("pointerdown", down);
  canvas.addEventListener("pointermove", move);
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, up);
  canvas.addEventListener("pointerleave", () => !pinned && hideTip());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    hideTip();
    plane.zoom(2 ** (-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), ...where(event));
  }, { passive: false });
  plane$.addEventListener("keydown", key);
  const on = (name, does) => at(name).addEventListener("click", () => (hideTip(), does()));
  on("nearer", () => plane.zoom(1.4));
  on("farther", () => plane.zoom(1 / 1.4));
  on("whole", () => plane.fit());
  on("select", () => at("select").setAttribute("aria-pressed", String(!isSelecting())));
  on("select-shown", () => choose(plane.within(0, 0, plane.canvas.clientWidth, plane.canvas.clientHeight)));
  on("copy-ids", copyNumbers);
  on("save-csv", save);
  on("clear", () => choose(null));
  at("colour").addEventListener("change", colour);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (inked(), plane.draw()));
  new ResizeObserver(() => plane.resize() && plane.draw()).observe(canvas);
}
