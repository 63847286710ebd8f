const runs = new Map();
const receive = (run) => runs.set(run.name, run);
const load = (name) => new Promise((done, fail) => {
  if (runs.has(name)) return done(runs.get(name));
  const tag = document.createElement("script");
  tag.src = `data/${name}.js`;
  tag.onload = () => done(runs.get(name));
  tag.onerror = () => fail(new Error(`data/${name}.js is not there; make the report again.`));
  document.head.append(tag);
});

// Mulberry32: seeded, so that a pair of runs has the same interval every time.
const generator = (seed) => () => {
  seed = (seed + 0x6D2B79F5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};

const byClass = (run, drawn) => {
  const part = new Float64Array(run.classes.length), whole = new Float64Array(run.classes.length);
  for (const index of drawn) {
    const row = run.cases[index];
    for (let i = 0; i < row.length; i += 3) {
      part[row[i]] += row[i + 1];
      whole[row[i]] += row[i + 2];
    }
  }
  return Array.from(part, (value, c) => (whole[c] > 0 ? value / whole[c] : run.absent ?? NaN));
};
const primary = (run, scores) => {
  const valid = run.scored.map((c) => scores[c]).filter((value) => !Number.isNaN(value));
  return valid.reduce((sum, value) => sum + value, 0) / valid.length;
};
const percentile = (sorted, share) => {
  const at = share * (sorted.length - 1), low = Math.floor(at), high = Math.ceil(at);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
};

const compare = (first, second) => {
  const cases = first.cases.length, every = [...first.cases.keys()], random = generator(0), found = [];
  const drawn = new Array(cases);
  for (let n = 0; n < RESAMPLES; n++) {
    for (let i = 0; i < cases; i++) drawn[i] = Math.floor(random() * cases);
    const difference = primary(second, byClass(second, drawn)) - primary(first, byClass(first, drawn));
    if (!Number.isNaN(difference)) found.push(difference);
  }
  found.sort((a, b) => a - b);
  const [before, after] = [byClass(first, every), byClass(second, every)];
  return {
    before, after, primary: [primary(first, before), primary(second, after)],
    low: percentile(found, 0.025), high: percentile(found, 0.975),
  };
};

const whyNot = (first, second) => {
  if (first.name === second.name) return "this is one run twice.";
  const differences = Object.entries(first.conditions)
    .filter(([name, value]) => value !== second.conditions[name])
    .map(([name, value]) => `${name}: ${value} against ${second.conditions[name]}`);
  if (differences.length) return `the runs differ in more than the method (${differences.join("; ")}).`;
  if (String(first.classes) !== String(second.classes) || first.metric !== second.metric) return "the runs have different classes or metrics.";
  if (first.items !== second.items) return "the runs were scored on different test items.";
  return "";
};

const node = (tag, text, attributes = {}) => {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};
const percent = (value) => (Number.isNaN(value) ? "" : (100 * value).toFixed(1));
const signed = (value) => (Number.isNaN(value) ? "" : (value < 0 ? "" : "+") + percent(value));
const row = (name, before, after, kind) => {
  const line = node("tr", "");
  line.append(node("th", name, { scope: "row" }));
  for (const [text, value] of [[percent(before), before], [percent(after), after], [signed(after - before), after - before]])
    line.append(node("td", text, { class: "num", "data-value": Number.isNaN(value) ? "" : value }));
  if (kind) line.className = kind;
  return line;
};

const show = (first, second, answer) => {
  const found = compare(first, second), difference = found.primary[1] - found.primary[0];
  const gist = node("p", "", { class: "gist" });
  gist.append(
    node("strong", `${first.metric}: ${signed(difference)}`),
    ` percentage points over ${first.cases.length === 1 ? "1 test case" : `${first.cases.length} test cases`}. `,
    first.cases.length < FEWEST_CASES ? `Fewer than ${FEWEST_CASES} cannot tell two runs apart: there is no interval.`
      : `95 % interval ${signed(found.low)} to ${signed(found.high)}. `
        + (found.low > 0 || found.high < 0 ? "It leaves out 0." : "It holds 0: the test cases do not tell the two apart."),
  );
  gist.dataset.difference = difference;
  gist.dataset.low = found.low;
  gist.dataset.high = found.high;
  const table = node("table", ""), head = node("tr", ""), body = node("tbody", ""), top = node("thead", ""), foot = node("tfoot", "");
  table.append(node("caption", "By class, test split, last checkpoints, percent. A blank cell was not computed."), top, body, foot);
  for (const text of ["Class", "First", "Second", "Difference"])
    head.append(node("th", text, { scope: "col", class: text === "Class" ? "" : "num" }));
  top.append(head);
  first.classes.forEach((name, c) => body.append(row(name, found.before[c], found.after[c])));
  foot.append(row(first.metric, ...found.primary));
  const scroll = node("div", "", { class: "scroll", role: "region", tabindex: 0, "aria-label": "By class" });
  scroll.append(table);
  const links = node("p", "");
  [first, second].forEach((run, n) => links.append(
    n ? " · Second: " : "First: ", node("a", run.label, { href: `runs/${run.name}.html` })));
  answer.replaceChildren(gist, links, scroll);
};

const form = document.getElementById("pair");
if (form) {
  const answer = document.getElementById("answer");
  const [first, second] = [form.elements.namedItem("first"), form.elements.namedItem("second")];
  const update = async () => {
    if (!first.value || !second.value) return;
    const asked = [first.value, second.value];
    history.replaceState(null, "", `#a=${asked[0]}&b=${asked[1]}`);
    try {
      const pair = await Promise.all(asked.map(load));
      if (first.value !== asked[0] || second.value !== asked[1]) return;
      const reason = whyNot(...pair);
      if (reason) answer.replaceChildren(node("p", `Not compared: ${reason}`, { class: "banner bad" }));
      else show(...pair, answer);
    } catch (error) {
      answer.replaceChildren(node("p", error.message, { class: "banner bad" }));
    }
  };
  const asked = new URLSearchParams(location.hash.slice(1));
  first.value = asked.get("a") ?? "";
  second.value = asked.get("b") ?? "";
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}
