// The page's behaviour: the theme, charts drawn as they come into view, the browser of samples. Whatever a model has written is put in as
// text, never as HTML.
"use strict";

const drawn = new Set();
const element = (id) => document.getElementById(id);

// plotly.js and the page's data are packed: base64 of zlib's format.

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(element(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

async function data(id) {
  return JSON.parse(await unpacked(id));
}

// Light or dark: what the reader's system says, until the reader says otherwise.

const root = document.documentElement;
const system = window.matchMedia("(prefers-color-scheme: dark)");
let chosen = null;

function remembered() {
  try { return localStorage.getItem("posttrain-theme"); } catch { return null; }
}

function setTheme() {
  root.dataset.theme = chosen ?? (system.matches ? "dark" : "light");
}

chosen = remembered();
setTheme();
system.addEventListener("change", () => { setTheme(); redraw(); });
element("theme").addEventListener("click", () => {
  chosen = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("posttrain-theme", chosen); } catch { /* A file may have no storage; the choice then ends with the page. */ }
  setTheme();
  redraw();
});

// Long tables, which are packed: HTML of the page's own making.

for (const place of document.querySelectorAll("[data-packed]")) {
  place.outerHTML = await unpacked(place.dataset.packed);
}

// Charts.

const charts = await data("charts");
const library = document.createElement("script");
library.nonce = document.querySelector("script[nonce]").nonce;
library.textContent = await unpacked("library");
document.head.append(library);
const options = (narrow) => ({ responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"] });

function axis(own, line) {
  return { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, exponentformat: "e", ...own, title: { standoff: 8, ...(own ?? {}).title } };
}

function colours() {
  const style = getComputedStyle(root);
  return ["--paper", "--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
}

// Error bars on bars have the colour of the text.
function inked(trace) {
  return trace.type === "bar" && trace.error_y ? { ...trace, error_y: { ...trace.error_y, color: colours()[1] } } : trace;
}

function themed(layout, narrow) {
  const [paper, ink, line] = colours();
  const annotations = (layout.annotations ?? []).map((note) => ({ ...note, bgcolor: note.bgcolor === "$paper" ? paper : note.bgcolor }));
  return {
    margin: { l: 48, r: 10, t: narrow ? 8 : 30, b: 40 },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: narrow ? 11 : 12 } },
    hovermode: "closest",
    dragmode: narrow ? false : "zoom",
    ...layout,
    annotations,
    font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
    paper_bgcolor: paper,
    plot_bgcolor: paper,
    xaxis: axis(layout.xaxis, line),
    yaxis: axis(layout.yaxis, line),
  };
}

function draw(place) {
  const chart = charts[Number(place.dataset.chart)];
  const narrow = window.innerWidth < 480;
  drawn.add(place);
  return Plotly.react(place, chart.data.map(inked), themed(chart.layout, narrow), options(narrow));
}

function redraw() {
  drawn.forEach(draw);
}

const places = Array.from(document.querySelectorAll(".plot"));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((entry) => entry.isIntersecting)) {
    watcher.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "600px" });
places.forEach((place) => watcher.observe(place));
window.addEventListener("beforeprint", () => places.forEach(draw));

// Listings that are filtered: by evaluation, metric and test set, and to significant differences. Without scripts all of them are there.

function filterListings(form) {
  const section = form.closest("section");
  const wanted = (name) => form.elements[name]?.value ?? "";
  const matches = (name, value) => wanted(name) === "" || wanted(name) === value;
  const told = form.elements.told.checked;
  let [lines, kept] = [0, 0];
  for (const box of section.querySelectorAll("[data-evaluation]")) {
    box.hidden = !matches("evaluation", box.dataset.evaluation);
    for (const listing of box.querySelectorAll("[data-metric]")) {
      const bodies = Array.from(listing.querySelectorAll("tbody[data-test-set]"));
      const own = !box.hidden && matches("metric", listing.dataset.metric);
      for (const body of bodies) {
        const here = matches("test-set", body.dataset.testSet);
        const rows = Array.from(body.rows).filter((row) => !row.classList.contains("group"));
        for (const row of rows) {
          const judged = ["higher", "lower", "equivalent", "unclear"].some((word) => row.classList.contains(word));
          row.hidden = told && (row.classList.contains("unclear") || !judged);
          lines += own && here && judged ? 1 : 0;
          kept += own && here && judged && !row.classList.contains("unclear") ? 1 : 0;
        }
        body.hidden = !here || rows.every((row) => row.hidden);
      }
      listing.hidden = !own || (bodies.length > 0 && bodies.every((body) => body.hidden));
    }
  }
  section.querySelector(".filtered").textContent = `${kept} of ${lines} ${lines === 1 ? "difference is" : "differences are"} significant`;
}

for (const form of document.querySelectorAll("form.filter")) {
  form.hidden = false;
  form.addEventListener("input", () => filterListings(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  filterListings(form);
}

// Samples.

const PAGE = 20;
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c8c"];
const evaluations = await data("samples-data");
let shown = PAGE;

function make(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function choices(select, values) {
  select.replaceChildren(...values.map(([value, words]) => make("option", { value, textContent: words })));
}

function number(value) {
  return value === null ? "no number" : Number(value.toPrecision(3)).toString();
}

function answer(entry, at) {
  const scores = Object.entries(entry.scores).map(([name, value]) => `${name} ${number(value)}`).join(", ");
  const box = make("div", { className: "answer" },
    make("h4", { textContent: entry.method }),
    make("p", { textContent: entry.text.trim() || "(nothing)" }),
    make("span", { className: "note", textContent: scores }));
  box.style.setProperty("--method", PALETTE[at % PALETTE.length]);
  if (entry.samples.length > 0) {
    const draws = entry.samples.map((text) => make("p", { className: "draw", textContent: text.trim() || "(nothing)" }));
    box.append(make("details", {}, make("summary", { className: "note", textContent: `${draws.length} samples` }), ...draws));
  }
  return box;
}

function input(entry) {
  return make("article", { className: "input" },
    make("h3", { textContent: `${entry.test_set}, ${entry.id}` }),
    make("div", { className: "prompt", tabIndex: 0, textContent: entry.prompt }),
    make("div", { className: "answers" }, ...entry.answers.map(answer)));
}

function matching() {
  const { inputs } = evaluations[Number(element("evaluation").value)];
  const set = element("test-set").value;
  const words = element("search").value.trim().toLowerCase();
  const found = inputs.filter((entry) => {
    const texts = () => [entry.id, entry.prompt, ...entry.answers.map((answer) => answer.text)];
    return (set === "" || entry.test_set === set) && (words === "" || texts().some((text) => text.toLowerCase().includes(words)));
  });
  const order = element("order").value;
  if (order !== "") {
    const [method, metric, way] = JSON.parse(order);
    const score = (entry) => entry.answers.find((answer) => answer.method === method)?.scores[metric] ?? -Infinity * way;
    found.sort((a, b) => way * (score(b) - score(a)) || 0);
  }
  return found;
}

function show() {
  const found = matching();
  element("found").textContent = `${found.length} ${found.length === 1 ? "input" : "inputs"}, ${Math.min(shown, found.length)} shown`;
  element("inputs").replaceChildren(...found.slice(0, shown).map(input));
  element("more").hidden = found.length <= shown;
}

function choose() {
  const evaluation = evaluations[Number(element("evaluation").value)];
  choices(element("test-set"), [["", "all"], ...evaluation.test_sets.map((name) => [name, name])]);
  const orders = [["", "as in the file"]];
  for (const { method, scores } of evaluation.inputs[0]?.answers ?? []) {
    for (const metric of Object.keys(scores)) {
      orders.push([JSON.stringify([method, metric, 1]), `${method}: highest ${metric}`], [JSON.stringify([method, metric, -1]), `${method}: lowest ${metric}`]);
    }
  }
  choices(element("order"), orders);
  restart();
}

function restart() {
  shown = PAGE;
  show();
}

if (element("filters")) {
  choices(element("evaluation"), evaluations.map((evaluation, at) => [String(at), evaluation.node]).filter(([at]) => evaluations[Number(at)].inputs.length > 0));
  element("evaluation").parentElement.hidden = element("evaluation").length < 2;
  element("evaluation").addEventListener("change", choose);
  element("test-set").addEventListener("change", restart);
  element("order").addEventListener("change", restart);
  element("search").addEventListener("input", restart);
  element("filters").addEventListener("submit", (event) => event.preventDefault());
  element("more").addEventListener("click", () => { shown += PAGE; show(); });
  choose();
}

// All of the page is there.

root.dataset.ready = "";
