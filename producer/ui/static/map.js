"use strict";

// The page Map, and the map of a report: there the points and the cards are in the file.
const given = document.getElementById("source");
const plane$ = document.getElementById("plane");
const at = (name) => document.getElementById(name);
const plain = (number) => number.toLocaleString("en");
const videos = (number) => `${plain(number)} ${number === 1 ? "video" : "videos"}`;

const INKS = 12; // the classes that have a colour of their own; all can be lit
const SHOWN = 24; // cards of what is selected

let plane = null;
let classes = []; // of the colouring: name, how many, which ink
let lit = new Set(); // of them, those that are lit
let chosen = null; // Uint8Array by point: what a rectangle has selected

async function read() {
  if (!given.dataset.points) {
    const bytes = Uint8Array.from(atob(at("packed").textContent), (one) => one.charCodeAt(0));
    return unpacked(bytes.buffer);
  }
  const answer = await fetch(given.dataset.points);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return unpacked(await answer.arrayBuffer());
}

// Cards of some videos, as the server draws them; in a report those that are in it.
async function cards(numbers) {
  const holder = document.createElement("template");
  if (given.dataset.cards) {
    const address = `${given.dataset.cards}?ids=${numbers.map((i) => plane.points.ids[i])}`;
    const answer = await fetch(address).catch(() => null); // then there are words
    if (answer?.ok) holder.innerHTML = await answer.text();
    return holder.content;
  }
  for (const i of numbers) {
    const kept = at(`card-${plane.points.ids[i]}`);
    holder.content.append(kept ? kept.content.cloneNode(true) : words(i));
  }
  return holder.content;
}

function words(i) {
  const { ids, category, tag, categories, tags } = plane.points;
  const card = document.createElement("p");
  card.className = "card";
  card.textContent = [`video ${ids[i]}`, categories[category[i]], tags[tag[i]] && `tag ${tags[tag[i]]}`].filter(Boolean).join(", ");
  return card;
}

// What a point is, by each way of colouring: a number among the names, and the names.
function colouring(way) {
  const { count, category, tag, categories, tags } = plane.points;
  if (way !== "right") {
    const [values, names] = way === "tag" ? [tag, tags] : [category, categories];
    const none = names.length;
    return [(i) => (values[i] < 0 ? none : values[i]), [...names, way === "tag" ? "no tag" : "no category"], none];
  }
  const right = categories.map((name) => tags.indexOf(name));
  const of = (i) => {
    if (tag[i] < 0) return 2;
    const wanted = category[i] < 0 ? -1 : right[category[i]];
    return wanted < 0 ? 3 : wanted === tag[i] ? 0 : 1;
  };
  return [of, ["right", "wrong", "no tag", "no category that the tagger knows"], count ? 2 : 0];
}

function colour() {
  const way = at("colour").value;
  const [of, names, none] = colouring(way);
  const counts = new Uint32Array(names.length);
  const raw = new Uint16Array(plane.points.count);
  for (let i = 0; i < raw.length; i++) counts[(raw[i] = of(i))]++;
  const order = [...names.keys()].filter((one) => counts[one]);
  if (way !== "right") order.sort((a, b) => (a === none) - (b === none) || counts[b] - counts[a]);
  const place = new Uint16Array(names.length);
  order.forEach((one, rank) => (place[one] = rank));
  for (let i = 0; i < raw.length; i++) plane.group[i] = place[raw[i]];
  classes = order.map((one, rank) => ({
    name: names[one],
    count: counts[one],
    ink: way === "right" ? ["good", "bad", "none", "none"][one] : one === none ? "none" : rank < INKS ? `c${rank + 1}` : "others",
  }));
  lit = new Set();
  legend();
  light();
}

function legend() {
  at("legend").replaceChildren(
    ...classes.map((one, rank) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(lit.has(rank)));
      const [ink, name, count] = ["i", "bdi", "span"].map((kind) => document.createElement(kind));
      ink.className = `ink ${one.ink}`;
      name.textContent = one.name;
      count.textContent = plain(one.count);
      button.append(ink, name, count);
      button.addEventListener("click", () => {
        lit.has(rank) ? lit.delete(rank) : lit.add(rank);
        button.setAttribute("aria-pressed", String(lit.has(rank)));
        light();
      });
      return button;
    }),
  );
}

// As the style sheet has them, for either scheme.
function inked() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => {
    const hex = parseInt(style.getPropertyValue(name).trim().slice(1), 16);
    return (0xff000000 | ((hex & 0xff) << 16) | (hex & 0xff00) | (hex >> 16)) >>> 0;
  };
  plane.paper = read("--raised");
  plane.faint = read("--unlit");
  plane.inks = Uint32Array.from(classes, (one, rank) => read(lit.has(rank) && one.ink === "others" ? "--accent" : `--${one.ink}`));
}

function light() {
  const { group } = plane;
  if (chosen || lit.size) {
    plane.lit = new Uint8Array(group.length);
    for (let i = 0; i < group.length; i++) {
      plane.lit[i] = (!chosen || chosen[i]) && (!lit.size || lit.has(group[i])) ? 1 : 0;
    }
  } else plane.lit = null;
  inked();
  plane.draw();
}

function choose(mask) {
  const count = mask ? mask.reduce((sum, one) => sum + one, 0) : 0;
  chosen = count ? mask : null;
  light();
  at("selected").hidden = !count;
  at("selected-title").textContent = `${videos(count)} selected`;
  if (mask) at("said").textContent = `${videos(count)} selected`;
  if (!count) return;
  const first = [];
  for (const large of [1, 0]) {
    for (let i = 0; first.length < SHOWN && i < mask.length; i++) {
      if (mask[i] && plane.large[i] === large) first.push(i);
    }
  }
  at("more").textContent = count > first.length ? `${plain(first.length)} of them, by chance.` : "";
  cards(first).then((shown) => chosen === mask && at("selected").querySelector(".grid").replaceChildren(shown));
}

function numbers() {
  const found = [];
  for (let i = 0; i < chosen.length; i++) if (chosen[i]) found.push(i);
  return found.sort((a, b) => plane.points.ids[a] - plane.points.ids[b]);
}

function table() {
  const { ids, category, tag, categories, tags, x, y } = plane.points;
  const cell = (words) => (words === undefined ? "" : `"${words.replaceAll('"', '""')}"`);
  const lines = numbers().map((i) => [ids[i], cell(categories[category[i]]), cell(tags[tag[i]]), x[i], y[i]].join(","));
  return ["video_id,category,tag,x,y", ...lines, ""].join("\n");
}

async function copyNumbers() {
  const found = numbers().map((i) => plane.points.ids[i]);
  try {
    await navigator.clipboard.writeText(found.join("\n"));
    at("said").textContent = at("copy-ids").textContent = `Copied ${plain(found.length)}`;
  } catch {
    at("said").textContent = at("copy-ids").textContent = "This browser lets nothing be copied here";
  }
  window.setTimeout(() => (at("copy-ids").textContent = "Copy their numbers"), 2000);
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.download = "videos.csv";
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function begin() {
  const points = await read();
  plane = new Plane(plane$.querySelector("canvas"), points);
  for (let i = 0; i < points.count; i++) if (at(`card-${points.ids[i]}`)) plane.large[i] = 1;
  plane.resize();
  colour();
  plane.fit();
  listen();
  at("state").hidden = true;
  at("told").textContent = points.total > points.count
    ? `${plain(points.count)} of ${plain(points.total)} points: a sample, the same one every time.`
    : `${videos(points.count)}.`;
  const unplaced = at("unplaced");
  if (unplaced && points.unplaced > 0) {
    unplaced.hidden = false;
    unplaced.firstElementChild.textContent = `${videos(points.unplaced)} got a vector since and have no place yet:`;
  }
  plane$.dataset.ready = "";
}

if (given) {
  begin().catch((error) => {
    at("state").hidden = false;
    at("state").textContent = `The points did not come: ${error.message}. Load the page again in a moment.`;
    at("state").classList.add("bad");
  });
}
