// The tree of one prompt: a row per sequence, bars along the token axis, a child under its parent.

const ROW = 22, BAR = 10, GUTTER = 46, EDGE = 20, HEAD = 26;
const RIGHT = 1, CUT_OFF = 2, EXTRA = 4;

function readTree(cell, prompt) {
  const lines = DATA.cells[cell].trees[prompt] || [];
  const sequences = lines.map(([parent, start, end, flags, answer, explanation, branch, pieces], index) => ({
    index, parent, start, end, branch, children: [],
    right: (flags & RIGHT) > 0, cutOff: (flags & CUT_OFF) > 0, extra: (flags & EXTRA) > 0,
    answer: answer === null ? null : DATA.texts[answer], explanation: DATA.texts[explanation],
    pieces: pieces.map(number => DATA.texts[number]),
  }));
  for (const sequence of sequences) if (sequence.parent !== null) sequences[sequence.parent].children.push(sequence);
  for (const sequence of sequences) sequence.children.sort((a, b) => a.start - b.start);
  return sequences;
}

// The last child is next to its parent, so that no link crosses a bar.
function inRows(sequences) {
  const rows = [];
  const visit = sequence => { rows.push(sequence); [...sequence.children].reverse().forEach(visit); };
  sequences.filter(sequence => sequence.parent === null).forEach(visit);
  return rows;
}

// The text that a sequence shares with its parent, from the pieces of its ancestors.
function textBefore(sequences, sequence) {
  if (sequence.parent === null) return "";
  const parent = sequences[sequence.parent], rank = parent.children.indexOf(sequence);
  return textBefore(sequences, parent) + parent.pieces.slice(0, rank + 1).join("");
}

function drawTree(cell, prompt) {
  const sequences = readTree(cell, prompt), rows = inRows(sequences), holder = byId("tree");
  holder.replaceChildren();
  byId("reading").replaceChildren();
  if (!rows.length) { byId("tree-note").textContent = "This prompt has no result yet."; return; }
  const width = Math.max(holder.clientWidth, 280), height = HEAD + rows.length * ROW + 6;
  const longest = Math.max(...sequences.map(sequence => sequence.end), 1);
  const xAt = linear(0, longest, GUTTER, width - EDGE);
  const svg = put(holder, "svg", { class: "tree", viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-label": `tree of ${rows.length} sequences` });
  for (const value of ticks(0, longest, width < 600 ? 4 : 9)) {
    put(svg, "line", { class: "grid", x1: xAt(value), x2: xAt(value), y1: HEAD - 6, y2: height - 4 });
    put(svg, "text", { class: "tick", x: xAt(value), y: 13, "text-anchor": "middle" }, value === 0 ? "token 0" : String(value));
  }
  rows.forEach((sequence, row) => { sequence.y = HEAD + row * ROW + ROW / 2; });
  const shown = rows.map(sequence => drawSequence(svg, sequence, xAt, width, () => read(sequence)));
  for (const sequence of rows) for (const child of sequence.children) drawBranch(svg, sequence, child, xAt, () => read(child));
  const read = sequence => {
    shown.forEach((group, row) => group.classList.toggle("chosen", rows[row] === sequence));
    showReading(sequences, sequence);
  };
  describe(cell, prompt, sequences);
  read(rows[0]);
}

function drawSequence(svg, sequence, xAt, width, onChoose) {
  const { y, start, end, children } = sequence;
  const group = put(svg, "g", { class: `sequence${sequence.extra ? " extra" : ""}` });
  put(group, "rect", { class: "row-back", x: 0, y: y - ROW / 2, width, height: ROW });
  put(group, "text", { class: "tick", x: 0, y: y + 4 }, `#${sequence.index + 1}${sequence.extra ? " +" : ""}`);
  const edges = [start, ...children.map(child => child.start), end];
  sequence.pieces.forEach((piece, i) => {
    const x = xAt(edges[i]), bar = put(group, "rect", { class: "segment", x, y: y - BAR / 2, rx: 2, height: BAR, width: Math.max(1, xAt(edges[i + 1]) - x - 1) });
    const name = `#${sequence.index + 1}, tokens ${edges[i]} to ${edges[i + 1]}`;
    hover(bar, () => [["b", `${name}${sequence.extra ? ", extra sequence" : ""}`], ["code", begin(piece, 600) || "(no text)"]], name);
  });
  drawLeaf(group, sequence, xAt(end));
  group.addEventListener("click", onChoose);
  group.addEventListener("keydown", event => { if (event.key === "Enter") onChoose(); });
  return group;
}

function drawLeaf(group, sequence, x) {
  const leaf = put(group, "g", { class: `leaf ${sequence.right ? "right" : "wrong"}`, transform: `translate(${x + 8} ${sequence.y})` });
  put(leaf, "circle", { class: "disc", r: 7.5 });
  put(leaf, "path", { class: "mark", d: sequence.right ? "M-3.4 0.3L-0.9 2.9L3.6 -2.7" : "M-2.8 -2.8L2.8 2.8M2.8 -2.8L-2.8 2.8" });
  const verdict = sequence.right ? "right" : "wrong";
  hover(leaf, () => [
    ["b", `#${sequence.index + 1} is ${verdict}${sequence.cutOff ? ", cut off at the length limit" : ""}`],
    ["code", sequence.answer === null ? "no answer" : sequence.answer], ["span", ` ${sequence.explanation}`],
  ]);
}

function drawBranch(svg, parent, child, xAt, onChoose) {
  const x = xAt(child.start), [entropy, first, second, chance, other] = child.branch;
  put(svg, "path", { class: "link", d: `M${x} ${parent.y}V${child.y}`, "stroke-dasharray": child.extra ? "3 3" : "none" });
  const mark = put(svg, "circle", { class: "branch", cx: x, cy: parent.y, r: 4.5 });
  const after = parent.pieces[parent.children.indexOf(child) + 1];
  hover(mark, () => [
    ["b", `Branch at token ${child.start}: entropy ${fixed(entropy, 2)} nats`],
    ["span", `#${parent.index + 1} takes token ${first} (p = ${fixed(chance, 2)}) `], ["code", `→ ${begin(after)}`],
    ["br", ""], ["span", `#${child.index + 1} takes token ${second} (p = ${fixed(other, 2)}) `], ["code", `→ ${begin(child.pieces[0])}`],
  ]);
  mark.addEventListener("click", onChoose);
}

function begin(text, most = 48) { return text.length > most ? `${text.slice(0, most)}…` : text; }

function describe(cell, prompt, sequences) {
  const right = sequences.filter(sequence => sequence.right).length, extra = sequences.filter(sequence => sequence.extra).length;
  const parts = [
    `${sequences.length} sequence${sequences.length > 1 ? "s" : ""}${extra ? ` (${extra} extra, marked +)` : ""}, ${right} right, ${whole(DATA.cells[cell].generated[prompt])} tokens generated.`,
    "Bars are the tokens that a sequence added, circles are branch points, ✓ and ✗ are correct and wrong ends. Point at them for their texts, click or tap a row to read the sequence.",
  ];
  if (DATA.shortened_to !== null) parts.push(`Texts are shortened to ${whole(DATA.shortened_to)} characters.`);
  if (DATA.left_out) parts.push(`${DATA.left_out} of the run's settings are left out here to keep the page small.`);
  if (DATA.summary.config.plan.seeds.length > 1) parts.push(`Trees are of seed ${DATA.seed}.`);
  byId("tree-note").textContent = parts.join(" ");
}

function showReading(sequences, sequence) {
  const panel = byId("reading");
  panel.replaceChildren();
  put(panel, "b", {}, `#${sequence.index + 1} ${sequence.right ? "✓ right" : "✗ wrong"}`);
  panel.append(`: ${sequence.answer === null ? "no answer" : sequence.answer}, ${sequence.explanation}`);
  put(panel, "br");
  const code = put(panel, "code"), before = textBefore(sequences, sequence);
  if (before) put(code, "span", { class: "before", title: "shared with the sequence it left" }, before);
  put(code, "span", {}, sequence.pieces.join(""));
}
