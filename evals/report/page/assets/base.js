"use strict";
// Small helpers: elements, numbers, scales, axes, the tooltip.

const DATA = JSON.parse(document.getElementById("data").textContent);
const METHODS = ["parallel", "eager_init", "eager_adapt", "eager", "best_first", "swor", "trie_parallel"];
const MINUS = "\u2212", ABSENT = "\u2013";

function byId(id) { return document.getElementById(id); }

function put(parent, name, attributes = {}, text = null) {
  const space = parent.namespaceURI.endsWith("svg") || name === "svg";
  const element = space
    ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  parent.appendChild(element);
  return element;
}

function colour(method) { return METHODS.includes(method) ? `var(--${method})` : "var(--ink)"; }

function fixed(value, digits = 3) {
  if (value === null || value === undefined) return ABSENT;
  return value.toFixed(digits).replace("-", MINUS);
}

function whole(value) { return value === null || value === undefined ? ABSENT : Math.round(value).toLocaleString("en"); }

function linear(low, high, from, to) { return value => from + (value - low) / (high - low || 1) * (to - from); }

function ticks(low, high, count) {
  const raw = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10)
    for (const n of [1, 2, 5]) if (n * power >= low && n * power <= high) found.push(n * power);
  return found;
}

// A frame with axes, as wide as its holder, and the scales to draw into it.
function frame(holder, height, { x, y, xTicks, yTicks, xLabel, yLabel, label, log = false }) {
  holder.replaceChildren();
  const width = Math.max(holder.clientWidth, 240), left = 46, right = 12, top = 10, bottom = 42;
  const svg = put(holder, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  const map = log ? v => Math.log(v) : v => v;
  const inner = linear(map(x[0]), map(x[1]), left, width - right);
  const xAt = value => inner(map(value)), yAt = linear(y[0], y[1], height - bottom, top);
  for (const value of yTicks) {
    put(svg, "line", { class: "grid", x1: left, x2: width - right, y1: yAt(value), y2: yAt(value) });
    put(svg, "text", { class: "tick", x: left - 7, y: yAt(value) + 4, "text-anchor": "end" }, String(value));
  }
  for (const [value, text] of xTicks)
    put(svg, "text", { class: "tick", x: xAt(value), y: height - bottom + 17, "text-anchor": "middle" }, text);
  put(svg, "text", { class: "axis", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel);
  put(svg, "text", { class: "axis", transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel);
  return { svg, xAt, yAt, width, left, right, bottom: height - bottom };
}

// Shapes distinguish the same things as colours, for readers who do not see the colours.
const SHAPES = [
  "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0Z", "M-4 -4H4V4H-4Z", "M0 -5.2L4.9 3.8H-4.9Z",
  "M0 -5.4L5.4 0L0 5.4L-5.4 0Z", "M0 5.2L4.9 -3.8H-4.9Z", "M-1.7 -5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
];

function point(svg, x, y, shape, fill, extra = {}) {
  return put(svg, "path", { d: SHAPES[Math.max(0, shape) % SHAPES.length], transform: `translate(${x} ${y})`, fill, ...extra });
}

function legend(holder, entries) {
  const list = put(holder, "div", { class: "legend" });
  for (const { shape, fill, stroke, opacity, text, line } of entries) {
    const item = put(list, "span"), svg = put(item, "svg", { viewBox: "-7 -7 14 14" });
    if (line) put(svg, "path", { d: "M-7 0H7", stroke: fill, "stroke-width": 2, "stroke-dasharray": line });
    else point(svg, 0, 0, shape, fill, { ...(stroke && { stroke }), ...(opacity && { opacity }) });
    item.append(text);
  }
}

const tip = byId("tip");

function showTip(parts, point) {
  tip.replaceChildren();
  for (const [name, text] of parts) put(tip, name, {}, text);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(point.x + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${point.y + 18 + box.height > innerHeight ? Math.max(8, point.y - box.height - 12) : point.y + 18}px`;
}

// Text on hover, on focus by keyboard and on touch.
function hover(element, parts, label) {
  element.classList.add("hot");
  element.setAttribute("tabindex", "0");
  element.setAttribute("aria-label", label || parts().map(part => part[1]).join(" "));
  element.addEventListener("pointermove", event => showTip(parts(), { x: event.clientX, y: event.clientY }));
  element.addEventListener("pointerleave", () => { tip.hidden = true; });
  element.addEventListener("blur", () => { tip.hidden = true; });
  element.addEventListener("focus", () => {
    if (!element.matches(":focus-visible")) return;
    const box = element.getBoundingClientRect();
    showTip(parts(), { x: box.left, y: box.bottom });
  });
}
