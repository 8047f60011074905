// The tables, the selectors, and what happens when the page opens.

const { rows: ROWS, config: CONFIG } = DATA.summary;
const SEVERAL_TEMPERATURES = new Set(ROWS.map(row => row.temperature)).size > 1;

function fillTable(table, heads, lines) {
  table.replaceChildren();
  const top = put(put(table, "thead"), "tr"), body = put(table, "tbody");
  for (const head of heads) put(top, "th", { scope: "col" }, head);
  for (const { method, cells } of lines) {
    const line = put(body, "tr");
    cells.forEach((text, index) => {
      const cell = put(line, "td");
      if (index === 0 && method) put(cell, "span", { class: "swatch", style: `background:${colour(method)}` });
      cell.append(text);
    });
  }
}

function withError(row, name) {
  if (row[name] === null) return ABSENT;
  return `${fixed(row[name])} ± ${fixed(row[`${name}_stderr`])}`;
}

function difference(row) {
  const interval = row.matched_difference_ci95;
  if (row.matched_difference === null) return ABSENT;
  if (!interval) return signed(row.matched_difference);
  const sign = { better: "▲ ", worse: "▼ " }[row.matched_verdict] || "";
  return `${sign}${signed(row.matched_difference)} [${interval.map(signed).join(", ")}]`;
}

function place(row) {
  return [row.name, String(row.max_sequences), row.theta === null ? ABSENT : String(row.theta),
    ...(SEVERAL_TEMPERATURES ? [String(row.temperature)] : [])];
}

function showTables() {
  const heads = ["method", "M", "θ", ...(SEVERAL_TEMPERATURES ? ["τ"] : [])];
  const matched = ["parallel, equal tokens", "difference [95 %]"];
  fillTable(byId("rows"), [...heads, "Pass@M", ...matched, "Cons@M", "Pass Rate", "#S", "extra", "#T", "cached", "seconds"],
    ROWS.map(row => ({ method: row.method, cells: [...place(row), withError(row, "pass_at_k"),
      fixed(row.matched_parallel_pass_at_k), difference(row), fixed(row.cons_at_k), fixed(row.pass_rate), whole(row.num_sequences),
      row.stage_two ? `${row.stage_two.extra_used} of ${row.stage_two.extra_granted}` : ABSENT, whole(row.tokens_generated),
      row.prompt_tokens ? `${(100 * row.cached_tokens / row.prompt_tokens).toFixed(1)} %` : ABSENT, fixed(row.wall_seconds, 1)] })));
  byId("levels").closest("details").hidden = !ROWS.some(row => row.levels.length > 1);
  fillTable(byId("levels"), [...heads, "level", "prompts", "Pass@M", ...matched, "Pass Rate", "#S", "#T"],
    ROWS.flatMap(row => row.levels.map(level => ({ method: row.method, cells: [...place(row), String(level.level),
      whole(level.num_prompts), withError(level, "pass_at_k"), fixed(level.matched_parallel_pass_at_k), difference(level),
      fixed(level.pass_rate), whole(level.num_sequences), whole(level.tokens_generated)] }))));
}

function showWords() {
  const { summary } = DATA, words = [`task ${summary.task}`, `model ${summary.model}`, `${CONFIG.plan.num_prompts} prompts`];
  if (summary.versions) words.push(`eager_sgl ${summary.versions.eager_sgl}`, `sglang ${summary.versions.server_sglang}`);
  byId("meta").textContent = words.join(" · ");
  if (summary.partial) {
    const missing = summary.missing.reduce((sum, each) => sum + each.num_missing, 0);
    byId("partial").hidden = false;
    byId("partial").textContent = `This run is partial: ${whole(missing)} results are missing.`;
  }
  for (const sentence of summary.findings) put(byId("findings"), "li", {}, sentence);
  for (const note of summary.notes) put(byId("notes"), "p", {}, note);
}

function listPrompts(cell) {
  const select = byId("prompt"), chosen = select.value;
  select.replaceChildren();
  for (const [number, sequences] of Object.entries(DATA.cells[cell].trees)) {
    const [name, level] = DATA.prompts[number], right = sequences.filter(line => line[3] & RIGHT).length;
    put(select, "option", { value: number }, `${name}${level === null ? "" : `, level ${level}`}: ${right} of ${sequences.length} right`);
  }
  if (chosen in DATA.cells[cell].trees) select.value = chosen;
}

function choose() {
  const cell = Number(byId("cell").value), prompt = Number(byId("prompt").value);
  byId("question").textContent = DATA.prompts[prompt][2];
  drawTree(cell, prompt);
}

function step(by) {
  const select = byId("prompt");
  select.selectedIndex = (select.selectedIndex + by + select.length) % select.length;
  choose();
}

function start() {
  showWords();
  showTables();
  DATA.cells.forEach((cell, index) => put(byId("cell"), "option", { value: index }, cell.label));
  if (DATA.cells.length) {
    byId("cell").value = DATA.first[0];
    listPrompts(DATA.first[0]);
    byId("prompt").value = DATA.first[1];
    byId("cell").addEventListener("change", () => { listPrompts(Number(byId("cell").value)); choose(); });
    byId("prompt").addEventListener("change", choose);
    byId("back").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
  }
  let width = 0;
  const draw = () => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    drawPareto(); drawEntropy(); drawBudget();
    if (DATA.cells.length) choose();
  };
  addEventListener("resize", () => requestAnimationFrame(draw));
  draw();
}

start();
