// The tables, the selectors, and the start of the page.

function fillTable(table, { heads, lines }) {
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

function showTables() {
  fillTable(byId("rows"), DATA.rows);
  fillTable(byId("levels"), DATA.levels);
  byId("levels").closest("details").hidden = !DATA.summary.rows.some(row => row.levels.length > 1);
}

function showWords() {
  const { summary } = DATA, words = [`task ${summary.task}`, `model ${summary.model}`, `${summary.config.plan.num_prompts} prompts`];
  if (summary.versions) words.push(`eager_sgl ${summary.versions.eager_sgl}`, `sglang ${summary.versions.server_sglang}`);
  byId("meta").textContent = words.join(" · ");
  if (summary.partial) {
    const missing = summary.missing.reduce((sum, each) => sum + each.num_missing, 0);
    byId("partial").hidden = false;
    byId("partial").textContent = `This run is partial: ${whole(missing)} results are missing.`;
  }
  for (const sentence of [...summary.savings, ...summary.findings])
    put(byId("findings"), "li", {}, sentence);
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
