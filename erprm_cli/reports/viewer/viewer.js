// The page of `erprm show --html`. Text of a row reaches the page as text only (textContent), never as HTML.
//
// A row, as reports/solutions_page.py writes it:
//   id, sample, origin [text]      what it is
//   problem, steps [L]             text
//   reasoning, answer              what a thinking model wrote before and after the steps, or ""
//   values [C][L]                  numbers of the columns in data.columns: label, k/K, then scores; null: none
//   intervals [L]                  [low, high] of the labels, null: unknown; or null
//   counts [L]                     k/K as text, or null
//   error                          index of the first wrong step; -1: none is wrong; null: unknown
//   correct                        whether the answer is right, or null
//   facts [[title, text]]          what else is known
// Added here:
//   number                         its place in the file
//   low                            per score, the first step below the threshold, -1 or null
//   largest, lowest                the largest difference and the lowest first score, or null
//   text                           all text in small letters, once it is searched
"use strict";

const ITEM_HEIGHT = 56; // px, as in viewer.css
const SPARE_ITEMS = 8; // drawn above and below the visible ones
const FIRST_CHARACTERS = 20_000; // of a text, FIRST_STEPS of a solution: more is shown on demand
const FIRST_STEPS = 500;
const FIRST_SCORE = 2; // the place of the scores in data.columns
const MARKED_STEPS = 60; // in a strip of colours, and with a dot each in the chart
const LARGE = 0.5; // a difference to point out

const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const scoreNames = data.columns.slice(FIRST_SCORE);
const state = { filters: new Set(), words: [], gap: 0, threshold: 0.5, reversed: false, shown: [], at: 0 };

// Values of a row

const reference = (row) => row.values[0] ?? row.values[1]; // what scores are compared with
const scoresOf = (row, place) => row.values[FIRST_SCORE + place];
const inData = data.columns.map((_, column) => data.rows.some((row) => row.values[column] !== null));

/** The differences that can be shown: {name, of(row): [values, values to subtract]}. */
const pairs = [];
if (inData[FIRST_SCORE] && inData[FIRST_SCORE + 1]) {
  pairs.push({ name: scoreNames.join(" − "), of: (row) => [scoresOf(row, 0), scoresOf(row, 1)] });
}
scoreNames.forEach((name, place) => {
  if (!inData[FIRST_SCORE + place] || !(inData[0] || inData[1])) return;
  const label = inData[0] ? "label" : "k/K";
  pairs.push({ name: `${name} − ${label}`, of: (row) => [scoresOf(row, place), reference(row)] });
});

/** The chosen difference at each step; null where a value is missing. */
function differences(row) {
  const [values, others] = pairs.length ? pairs[element("pair").selectedIndex].of(row) : [];
  if (!values || !others) return null;
  return values.map((value, step) => (value === null || others[step] === null ? null : value - others[step]));
}

const largestGap = (row) => differences(row)?.reduce((most, gap) => Math.max(most, Math.abs(gap ?? 0)), 0) ?? null;
const lowestScore = (row) => scoresOf(row, 0)?.reduce((least, score) => Math.min(least, score)) ?? null;
const isMistake = (row, low) => row.error !== null && low !== null && low !== row.error;

const FILTERS = [
  { key: "w", name: "Wrong answer", title: "The final answer is wrong", test: (row) => row.correct === false },
  { key: "r", name: "Right answer", title: "The final answer is right", test: (row) => row.correct === true },
  {
    key: "e",
    name: "First-error mistake",
    title: "The first step with a low score is not the first wrong step",
    test: (row) => row.low.some((low) => isMistake(row, low)),
  },
  {
    key: "d",
    name: "PRMs disagree",
    title: "The two PRMs name different first errors",
    test: (row) => row.low.length > 1 && !row.low.includes(null) && row.low[0] !== row.low[1],
  },
];

const SORTS = [
  { name: "file order", of: (row) => row.number, sign: 1 },
  { name: "largest difference", of: (row) => row.largest, sign: -1 },
  { name: "lowest score first", of: (row) => row.lowest, sign: 1 },
  { name: "highest minimum score", of: (row) => row.lowest, sign: -1 },
  { name: "most steps", of: (row) => row.steps.length, sign: -1 },
  { name: "id", of: (row) => row.id, sign: 1 },
];

// Making elements

/** Return an element with a class and children, which are nodes or text. */
function make(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Return an element of an SVG with attributes and, if given, text. */
function draw(tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
}

/** Return a block of text of any length; a button shows the rest of a very long one. */
function textBlock(text, className = "") {
  const block = make("div", `text ${className}`, text.slice(0, FIRST_CHARACTERS));
  block.dir = "auto";
  if (text.length > FIRST_CHARACTERS) {
    const more = make("button", "more", `Show all ${text.length.toLocaleString("en")} characters`);
    more.onclick = () => block.replaceChildren(text);
    block.append(make("br"), more);
  }
  return block;
}

/** Return the colour of a value: low at 0, high at 1; the style sheet names the three colours. */
function shade(value) {
  const percent = Math.round(200 * Math.min(Math.max(value, 0), 1));
  if (percent < 100) return `color-mix(in oklab, var(--middle) ${percent}%, var(--low))`;
  return `color-mix(in oklab, var(--high) ${percent - 100}%, var(--middle))`;
}

// The list: only the visible items are in the page

function judge() {
  for (const row of data.rows) {
    row.low = scoreNames.map((_, place) => {
      const scores = scoresOf(row, place);
      return scores && scores.findIndex((score) => score < state.threshold);
    });
    row.largest = largestGap(row);
    row.lowest = lowestScore(row);
  }
}

/** Return the text to search in, made when it is first needed. */
function haystack(row) {
  const texts = () => [row.id, row.origin, row.problem, row.reasoning, row.steps, row.answer, row.facts].flat(2);
  row.text ??= texts().join("\n").toLowerCase();
  return row.text;
}

/** Compare two rows by the chosen order; those without a value come last, equal ones in the order of the file. */
function order(one, other) {
  const { of, sign } = SORTS[element("sort").selectedIndex];
  const [a, b] = [of(one), of(other)];
  if (a !== b && (a === null || b === null)) return a === null ? 1 : -1;
  const forward = a === b ? one.number - other.number : a < b ? -sign : sign;
  return state.reversed ? -forward : forward;
}

/** Filter and sort the rows again; the chosen one stays chosen if it is still there. */
function update() {
  const chosen = state.shown[state.at];
  const tests = FILTERS.filter((filter) => state.filters.has(filter.key)).map((filter) => filter.test);
  if (state.gap > 0) tests.push((row) => row.largest >= state.gap);
  if (state.words.length) tests.push((row) => state.words.every((word) => haystack(row).includes(word)));
  state.shown = data.rows.filter((row) => tests.every((test) => test(row))).sort(order);
  for (const filter of FILTERS) {
    const count = data.rows.filter(filter.test).length;
    filter.button.querySelector("output").textContent = count.toLocaleString("en");
    filter.button.disabled = !count && !state.filters.has(filter.key);
    filter.button.setAttribute("aria-pressed", state.filters.has(filter.key));
  }
  const [shown, all] = [state.shown.length, data.rows.length].map((count) => count.toLocaleString("en"));
  element("summary").textContent = `${shown === all ? all : `${shown} of ${all}`} solutions`;
  element("rows").style.height = `${state.shown.length * ITEM_HEIGHT}px`;
  choose(Math.max(0, state.shown.indexOf(chosen)));
}

/** Sort again and choose the first solution. */
function sort() {
  update();
  choose(0);
}

function drawList() {
  const list = element("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ITEM_HEIGHT) - SPARE_ITEMS);
  const last = first + Math.ceil(list.clientHeight / ITEM_HEIGHT) + 2 * SPARE_ITEMS;
  element("rows").replaceChildren(
    ...state.shown.slice(first, last).map((row, place) => listItem(row, first + place)),
  );
  list.setAttribute("aria-activedescendant", `item-${state.at}`);
}

function listItem(row, at) {
  const verdict = row.correct === null ? "" : row.correct ? "right" : "wrong";
  const strips = make("span", "strips");
  const columns = [Number(element("colour").value)];
  if (columns[0] === FIRST_SCORE && scoreNames.length > 1) columns.push(FIRST_SCORE + 1);
  for (const column of columns) if (row.values[column]) strips.append(strip(row.values[column]));
  const name = row.sample === null ? row.id : `${row.id}, ${row.sample}`;
  const item = make("div", "item", make("span", "name", name), make("span", `verdict ${verdict}`, verdict), strips);
  item.id = `item-${at}`;
  item.style.top = `${at * ITEM_HEIGHT}px`;
  item.setAttribute("role", "option");
  item.setAttribute("aria-selected", at === state.at);
  item.setAttribute("aria-posinset", at + 1);
  item.setAttribute("aria-setsize", state.shown.length);
  item.onclick = () => choose(at);
  return item;
}

function strip(values) {
  const box = make("span", "strip");
  for (const value of values.slice(0, MARKED_STEPS)) {
    const cell = make("i");
    if (value !== null) cell.style.background = shade(value);
    box.append(cell);
  }
  return box;
}

// The chosen solution

function choose(at) {
  state.at = Math.min(Math.max(at, 0), Math.max(0, state.shown.length - 1));
  const list = element("list");
  const top = state.at * ITEM_HEIGHT;
  list.scrollTop = Math.min(Math.max(list.scrollTop, top + ITEM_HEIGHT - list.clientHeight), top);
  drawList();
  const row = state.shown[state.at];
  element("solution").scrollTop = 0;
  element("solution").replaceChildren(...(row ? solution(row) : [make("p", "none", "No solution fits.")]));
  highlight();
}

function solution(row) {
  const about = [row.sample === null ? "" : `sample ${row.sample}`, ...row.origin].filter(Boolean);
  const facts = make("dl", "facts");
  for (const [title, text] of row.facts) {
    const verdict = title === "" && ["right", "wrong"].includes(text) ? text : "";
    facts.append(make("div", "", make("dt", "", title), make("dd", verdict, text)));
  }
  const heading = make("h2", "", row.id, make("small", "", about.map((word) => `, ${word}`).join("")));
  const parts = [heading, facts, textBlock(row.problem, "problem")];
  if (row.reasoning) {
    const title = `Reasoning, ${row.reasoning.length.toLocaleString("en")} characters`;
    parts.push(make("details", "", make("summary", "", title), textBlock(row.reasoning)));
  }
  if (row.steps.length) {
    const table = stepTable(row);
    if (row.values.some(Boolean)) parts.push(chart(row, table));
    parts.push(table);
  }
  if (row.answer) parts.push(textBlock(row.answer, "answer"));
  return parts;
}

function stepTable(row) {
  const columns = data.columns.map((_, column) => column).filter((column) => row.values[column]);
  const gaps = differences(row);
  const heads = ["", "", ...columns.map((column) => data.columns[column]), ...(gaps ? ["diff."] : []), ""];
  const body = make("tbody");
  const table = make("table", "steps", make("thead", "", make("tr", "", ...heads.map((name) => make("th", "", name)))), body);
  const colour = row.values[Number(element("colour").value)] ?? columns.map((column) => row.values[column])[0];
  const addSteps = (from, to) => {
    row.steps.slice(from, to).forEach((text, place) => {
      const step = from + place;
      const line = make("tr", "", make("td", "number mark", mark(row, step)), make("td", "number", String(step + 1)));
      for (const column of columns) line.append(valueCell(row, column, step));
      if (gaps) line.append(gapCell(gaps[step]));
      line.append(make("td", "", textBlock(text)));
      if (colour && colour[step] !== null) line.style.setProperty("--shade", shade(colour[step]));
      body.append(line);
    });
  };
  addSteps(0, FIRST_STEPS);
  if (row.steps.length > FIRST_STEPS) {
    const more = make("button", "more", `Show all ${row.steps.length.toLocaleString("en")} steps`);
    const foot = make("tfoot", "", make("tr", "", make("td", "", more)));
    foot.firstChild.firstChild.colSpan = heads.length;
    more.onclick = () => {
      foot.remove();
      addSteps(FIRST_STEPS);
    };
    table.append(foot);
  }
  return table;
}

/** ✗ for the first wrong step, ? for a PRM's first low score. */
const mark = (row, step) => (row.error === step ? "✗" : "") + (row.low.includes(step) ? "?" : "");

function valueCell(row, column, step) {
  const value = row.values[column][step];
  const low = column >= FIRST_SCORE && value < state.threshold;
  let text = value === null ? "–" : column === 1 ? row.counts[step] : value.toFixed(2);
  const ends = column === 0 ? row.intervals?.[step] : null;
  if (ends) text += ` [${ends.map((end) => end.toFixed(2)).join(", ")}]`;
  return make("td", low ? "number low" : "number", text);
}

function gapCell(gap) {
  if (gap === null) return make("td", "number");
  const size = Math.abs(gap).toFixed(2);
  const sign = size === "0.00" ? "" : gap < 0 ? "−" : "+";
  return make("td", Math.abs(gap) >= LARGE ? "number large" : "number", sign + size);
}

/** Return the chart of all columns against the steps; pointing at it marks the step in `table`, and back. */
function chart(row, table) {
  const [height, left, right, top, bottom] = [150, 30, 4, 14, 20];
  const width = Math.min(1000, element("solution").clientWidth - 48); // as in viewer.css
  const count = row.steps.length;
  const band = (width - right - left) / count; // the width of a step
  const x = (step) => left + band * (step + 0.5);
  const y = (value) => top + (height - top - bottom) * (1 - Math.min(Math.max(value, 0), 1));
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img" });
  svg.setAttribute("aria-label", `Values of ${count} steps from 0 to 1`);
  const column = (step, name) => draw("rect", { class: name, x: x(step) - band / 2, y: top, width: band, height: height - top - bottom });
  if (row.error !== null && row.error >= 0) {
    svg.append(column(row.error, "error"), draw("text", { class: "error-mark", x: x(row.error) - 4, y: 11 }, "✗"));
  }
  for (const value of [0, 0.5, 1]) {
    svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: 4, y: y(value) + 4 }, String(value)));
  }
  if (state.threshold !== 0.5) {
    svg.append(draw("line", { class: "threshold", x1: left, x2: width - right, y1: y(state.threshold), y2: y(state.threshold) }));
  }
  const every = Math.ceil(count / 30);
  for (let step = 0; step < count; step += every) {
    svg.append(draw("text", { x: x(step), y: height - 5, "text-anchor": "middle" }, String(step + 1)));
  }
  row.intervals?.forEach((ends, step) => {
    if (!ends || ends[0] === ends[1]) return;
    const [middle, low, high] = [x(step), y(ends[0]), y(ends[1])];
    svg.append(draw("path", { class: "interval", d: `M${middle - 4} ${low}h8m-4 0V${high}m-4 0h8` }));
  });
  const caption = make("figcaption");
  row.values.forEach((values, series) => {
    if (!values) return;
    const points = values.map((value, step) => [step, value]).filter(([, value]) => value !== null);
    const path = points.map(([step, value]) => `${x(step)},${y(value)}`).join(" ");
    svg.append(draw("polyline", { class: `series-${series}`, points: path }));
    if (count <= MARKED_STEPS) {
      svg.append(...points.map(([step, value]) => draw("circle", { class: `series-${series}`, cx: x(step), cy: y(value), r: 3.5 })));
    }
    const name = data.columns[series] + (series === 0 && row.intervals?.some(Boolean) ? " with 95 % interval" : "");
    caption.append(make("span", `series-${series}`, name));
  });
  link(svg, table, (step) => column(step, "pointed"), (place) => Math.floor((place - left) / band));
  return make("figure", "", svg, caption);
}

/** Let the step under the pointer, in the chart or in the table, be marked in both. */
function link(svg, table, marker, stepAt) {
  const lines = table.tBodies[0].rows;
  const point = (step) => {
    for (const node of [...svg.querySelectorAll(".pointed"), ...table.querySelectorAll("tr.pointed")]) {
      if (node.tagName === "TR") node.classList.remove("pointed");
      else node.remove();
    }
    if (!lines[step]) return;
    lines[step].classList.add("pointed");
    svg.prepend(marker(step));
  };
  const under = (event) => stepAt(event.clientX - svg.getBoundingClientRect().left);
  svg.onmousemove = (event) => point(under(event));
  svg.onclick = (event) => lines[under(event)]?.scrollIntoView({ block: "center" });
  table.tBodies[0].onmouseover = (event) => point([...lines].indexOf(event.target.closest("tr")));
  svg.onmouseleave = table.onmouseleave = () => point(-1);
}

/** Mark the words of the search in the solution, without changing its elements. */
function highlight() {
  if (!CSS.highlights) return;
  const ranges = [];
  const walker = document.createTreeWalker(element("solution"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node && state.words.length; node = walker.nextNode()) {
    const text = node.data.toLowerCase();
    for (const word of text.length === node.length ? state.words : []) {
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + word.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

// Controls

function toggle(key) {
  if (!state.filters.delete(key)) state.filters.add(key);
  const opposite = { w: "r", r: "w" }[key];
  if (opposite) state.filters.delete(opposite);
  update();
}

function reverse() {
  state.reversed = !state.reversed;
  element("direction").setAttribute("aria-pressed", state.reversed);
  sort();
}

function nextColour() {
  const select = element("colour");
  select.selectedIndex = (select.selectedIndex + 1) % select.length;
  choose(state.at);
}

function nextTheme() {
  const themes = ["system", "light", "dark"];
  const root = document.documentElement;
  const next = themes[(themes.indexOf(root.dataset.theme ?? "system") + 1) % themes.length];
  root.dataset.theme = next;
  root.style.colorScheme = next === "system" ? "" : next;
  element("theme").textContent = `Theme: ${next}`;
}

function clearSearch() {
  element("search").value = "";
  element("search").blur();
  search();
}

function search() {
  state.words = element("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  update();
}

const page = () => Math.max(1, Math.floor(element("list").clientHeight / ITEM_HEIGHT) - 1);
const KEYS = [
  { keys: ["j", "ArrowDown"], does: "next solution", run: () => choose(state.at + 1) },
  { keys: ["k", "ArrowUp"], does: "previous solution", run: () => choose(state.at - 1) },
  { keys: ["PageDown"], does: "a page of solutions down", run: () => choose(state.at + page()) },
  { keys: ["PageUp"], does: "a page of solutions up", run: () => choose(state.at - page()) },
  { keys: ["g", "Home"], does: "first solution", run: () => choose(0) },
  { keys: ["G", "End"], does: "last solution", run: () => choose(state.shown.length - 1) },
  { keys: ["/"], does: "search", run: () => element("search").focus() },
  { keys: ["Escape"], does: "end the search", run: clearSearch },
  ...FILTERS.map(({ key, name }) => ({ keys: [key], does: `filter: ${name}`, run: () => toggle(key) })),
  { keys: ["o"], does: "reverse the order", run: reverse },
  { keys: ["c"], does: "colour by the next column", run: nextColour },
  { keys: ["t"], does: "theme: as the system, light, dark", run: nextTheme },
  { keys: ["?"], does: "these keys", run: () => element("help").showModal() },
];

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
  if (event.target.matches("input, select") && event.key !== "Escape") return;
  const binding = KEYS.find(({ keys }) => keys.includes(event.key));
  if (!binding) return;
  event.preventDefault();
  binding.run();
}

function start() {
  data.rows.forEach((row, number) => (row.number = number));
  pairs.forEach(({ name }) => element("pair").append(new Option(name)));
  element("gap-field").hidden = !pairs.length;
  SORTS.forEach(({ name }) => element("sort").append(new Option(name)));
  data.columns.forEach((name, column) => inData[column] && element("colour").append(new Option(name, column)));
  for (const filter of FILTERS) {
    filter.button = make("button", "", filter.name, make("output"));
    filter.button.title = `${filter.title} (${filter.key})`;
    filter.button.onclick = () => toggle(filter.key);
    element("filters").append(filter.button);
  }
  FILTERS.at(-1).button.hidden = scoreNames.length < 2;
  if (scoreNames.length > 1) element("colour").value = FIRST_SCORE;
  for (const { keys, does } of KEYS) {
    const names = keys.map((key) => key.replace("Arrow", "")).join(", ");
    element("bindings").append(make("tr", "", make("th", "", names), make("td", "", does)));
  }
  element("search").oninput = search;
  element("sort").onchange = sort;
  element("direction").onclick = reverse;
  element("colour").onchange = () => choose(state.at);
  element("theme").onclick = nextTheme;
  element("keys").onclick = () => element("help").showModal();
  for (const id of ["pair", "gap", "threshold"]) {
    element(id).oninput = () => {
      state.gap = Number(element("gap").value);
      state.threshold = Number(element("threshold").value);
      judge();
      update();
    };
  }
  element("list").onscroll = () => requestAnimationFrame(drawList);
  window.onresize = () => choose(state.at);
  document.addEventListener("keydown", onKey);
  judge();
  update();
  performance.mark("ready");
}

start();
