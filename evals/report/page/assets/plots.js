// The three plots of a run, which are drawn again when the width of the page changes.

function drawPareto() {
  const holder = byId("pareto"), { lines, curves } = DATA.pareto;
  const all = [...lines, ...curves].flatMap(line => line.points);
  if (!all.length) { holder.textContent = "Nothing to show yet."; return; }
  const xs = all.map(p => p[0]), ys = all.map(p => p[1]);
  const low = Math.min(...xs), high = Math.max(...xs), bottom = Math.max(0, Math.floor((Math.min(...ys) - 0.03) * 10) / 10);
  const x = [low / 1.1, high * 1.1], y = [bottom, 1];
  const plot = frame(holder, 320, {
    x, y, log: true, xTicks: logTicks(...x).map(v => [v, whole(v)]), yTicks: ticks(bottom, 1, 5),
    xLabel: "tokens generated per prompt (log)", yLabel: "Pass@k",
    label: "Tokens generated per prompt against Pass@k, for each method and for Full Parallel",
  });
  const several = curves.length > 1, entries = [];
  curves.forEach((curve, index) => {
    const dash = ["", "6 4", "2 3"][index % 3], name = `parallel${several ? `, τ = ${curve.temperature}` : ""}`;
    put(plot.svg, "path", { d: path(curve.points, plot), fill: "none", stroke: colour("parallel"), "stroke-width": 2, "stroke-dasharray": dash });
    for (const p of curve.points) {
      const dot = put(plot.svg, "circle", { cx: plot.xAt(p[0]), cy: plot.yAt(p[1]), r: 3, fill: colour("parallel") });
      hover(dot, () => [["b", `${name}, k = ${p[2]}`], ["span", `Pass@k ${fixed(p[1])}, ${whole(p[0])} tokens per prompt`]]);
    }
    entries.push({ line: dash || "none", fill: colour("parallel"), text: `${name}: unbiased Pass@k, k = 1 … ${curve.points.length}` });
  });
  const kinds = new Map(); // a dash for every θ and τ
  for (const line of lines) {
    const shape = METHODS.indexOf(line.method), fill = colour(line.method);
    const key = [...(line.theta === null ? [] : [`θ = ${line.theta}`]), ...(several ? [`τ = ${line.temperature}`] : [])].join(", ");
    if (!kinds.has(key)) kinds.set(key, ["", "6 4", "2 3", "8 3 2 3"][kinds.size % 4]);
    const points = [...line.points].sort((a, b) => a[2] - b[2]);
    put(plot.svg, "path", { d: path(points, plot), fill: "none", stroke: fill, "stroke-width": 1.6, "stroke-dasharray": kinds.get(key) });
    for (const p of points) {
      const mark = point(plot.svg, plot.xAt(p[0]), plot.yAt(p[1]), shape, ...shade(line));
      hover(mark, () => [["b", [`${line.name}, M = ${p[2]}`, ...(key ? [key] : [])].join(", ")], ["span", `Pass@M ${fixed(p[1])} (realised), ${whole(p[0])} tokens per prompt`]]);
    }
  }
  for (const line of new Map(lines.map(each => [each.name, each])).values())
    entries.push({ shape: METHODS.indexOf(line.method), fill: shade(line)[0], stroke: colour(line.method), text: `${line.name}, over M` });
  if (kinds.size > 1) for (const [key, dash] of kinds) if (key) entries.push({ line: dash || "none", fill: "var(--ink)", text: key });
  legend(holder, entries);
  byId("pareto-note").textContent = "Above the grey curve is better than Full Parallel with the same tokens.";
}

function shade({ method, name }) { // hollow where extra sequences resume
  const ink = colour(method);
  return name === method ? [ink, { stroke: "var(--paper)" }] : ["var(--paper)", { stroke: ink }];
}

function path(points, plot) {
  return points.map((p, i) => `${i ? "L" : "M"}${plot.xAt(p[0]).toFixed(1)} ${plot.yAt(p[1]).toFixed(1)}`).join("");
}

function drawEntropy() {
  const holder = byId("entropy"), points = DATA.entropy, figures = DATA.summary.entropy_pass_rate;
  if (!points.length) { holder.textContent = "No entropies were recorded."; return; }
  const high = Math.max(...points.map(p => p[0])), low = Math.min(...points.map(p => p[0]), high - 0.1);
  const levels = [...new Set(points.map(p => p[2]))].sort((a, b) => a - b);
  const plot = frame(holder, 320, {
    x: [Math.min(0, low), high * 1.03], y: [-0.03, 1.03], yTicks: [0, 0.2, 0.4, 0.6, 0.8, 1],
    xTicks: ticks(Math.min(0, low), high * 1.03, 6).map(v => [v, String(v)]), xLabel: "mean peak entropy of a prompt (nats)",
    yLabel: "pass rate", label: "Peak entropy of each prompt against its pass rate",
  });
  for (const [peak, rate, level, name] of points) {
    const index = levels.indexOf(level);
    const mark = point(plot.svg, plot.xAt(peak), plot.yAt(rate), index, `var(--l${index % 6})`, { "fill-opacity": 0.75 });
    hover(mark, () => [["b", name], ["span", `${level === null ? "" : `level ${level}, `}peak entropy ${fixed(peak, 2)}, pass rate ${fixed(rate, 2)}`]]);
  }
  if (levels[0] !== null) legend(holder, levels.map((level, index) => ({
    shape: index, fill: `var(--l${index % 6})`, text: `level ${level}${rho(figures.levels.find(f => f.level === level))}`,
  })));
  byId("entropy-note").textContent = figures.spearman === null ? "" :
    `eager_init, M = ${figures.max_sequences}, θ = ${figures.theta}: Spearman ρ = ${fixed(figures.spearman)}, ` +
    `p = ${figures.p_value.toExponential(1).replace("-", MINUS)}, n = ${figures.n}`;
}

function rho(figures) { return figures && figures.spearman !== null ? ` (ρ = ${fixed(figures.spearman, 2)})` : ""; }

function drawBudget() {
  const holder = byId("budget"), { methods, max_sequences: most } = DATA.budget;
  if (!methods.length) { holder.textContent = "Nothing to show yet."; return; }
  const levels = [...new Set(methods.flatMap(m => m.levels.map(l => l[0])))].sort((a, b) => a - b);
  const high = Math.max(most, ...methods.flatMap(m => m.levels.map(l => l[2]))) * 1.08;
  const plot = frame(holder, 280, {
    x: [0, levels.length], y: [0, high], yTicks: ticks(0, high, 5), xLabel: levels[0] === null ? "all prompts" : "level",
    yLabel: "sequences per prompt", xTicks: levels.map((level, i) => [i + 0.5, level === null ? "" : String(level)]),
    label: "Sequences per prompt by level and method, of stage one and added by stage two",
  });
  const step = (plot.width - plot.left - plot.right) / levels.length, bar = Math.min(34, step * 0.86 / methods.length);
  const pattern = put(put(plot.svg, "defs"), "pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  put(pattern, "rect", { width: 2.2, height: 5, fill: "var(--paper)" });
  methods.forEach(({ method, name, levels: spent }, index) => {
    for (const [level, before, after] of spent) {
      const x = plot.xAt(levels.indexOf(level) + 0.5) + (index - methods.length / 2) * bar;
      const column = put(plot.svg, "g", { opacity: name === method ? 1 : 0.55 }), fill = colour(method);
      block(column, x, bar, plot.yAt(before), plot.bottom, fill);
      if (after > before) {
        block(column, x, bar, plot.yAt(after), plot.yAt(before), fill);
        block(column, x, bar, plot.yAt(after), plot.yAt(before), "url(#hatch)");
      }
      const extra = after > before ? `, ${fixed(after, 2)} after reallocation` : "";
      hover(column, () => [["b", `${name}${level === null ? "" : `, level ${level}`}`], ["span", `${fixed(before, 2)} sequences per prompt${extra}`]]);
    }
  });
  put(plot.svg, "line", { x1: plot.left, x2: plot.width - plot.right, y1: plot.yAt(most), y2: plot.yAt(most), stroke: "var(--ink)", "stroke-dasharray": "2 4" });
  put(plot.svg, "text", { class: "tick", x: plot.left + 2, y: plot.yAt(most) - 4 }, `M = ${most}`);
  legend(holder, methods.map(({ method, name }) => ({ shape: 1, fill: colour(method), text: name, opacity: name === method ? 1 : 0.55 })));
  byId("budget-note").textContent = "Plain: stage one. Hatched: added by stage two." +
    (DATA.budget.theta === null ? "" : ` θ = ${DATA.budget.theta}.`);
}

function block(parent, x, width, top, bottom, fill) {
  put(parent, "rect", { x: x + 1, y: top, width: Math.max(1, width - 2), height: Math.max(0, bottom - top), fill });
}
