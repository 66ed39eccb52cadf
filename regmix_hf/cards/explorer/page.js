// What a person sees and moves. Everything is drawn from `state`, which the address holds too.

// Milliseconds without a move after which the dearest table is drawn, a prediction for each domain: so sliders stay
// fluid where a prediction takes some of them.
const RESTED = 100;

const state = { weights: [], locked: facts.domains.map(() => false), budget: facts.budget,
  resting: null, epochs: facts.epochs ?? 4, capped: facts.tokens !== null && facts.epochs !== null };
const given = Object.entries(facts.mixtures);
const givenLosses = new Map(given.map(([name, weights]) => [name, predict(weights)]));
const get = (id) => document.getElementById(id);
const percent = (share) => (share > 0 && share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`);
// Digits after the point, or two digits where those would say 0.
const fixed = (value, digits) => (value && !Number(value.toFixed(digits)) ? value.toPrecision(2) : value.toFixed(digits));
const number = (value) => (Number.isFinite(value) ? value.toFixed(4) : "-");

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function textEpochs(i) {
  return facts.tokens === null ? null : (state.weights[i] * state.budget) / facts.tokens[i];
}

function caps() {
  if (!state.capped || facts.tokens === null) return facts.domains.map(() => 1);
  return facts.tokens.map((count) => Math.min(1, (state.epochs * count) / state.budget));
}

function setWeights(weights) {
  const met = meet(weights, facts.domains.map(() => false), caps(), facts.mixtures.prior);
  get("cap-warning").textContent = met === null
    ? "All the text together does not last: lower the training tokens or allow more epochs." : "";
  state.weights = met ?? weights;
  show();
}

function move(i, share) {
  state.weights = giveWay(state.weights, i, share, state.locked, caps(), facts.mixtures.prior);
  show();
}

function buildDomains() {
  facts.domains.forEach((name, i) => {
    const set = make("fieldset", undefined, { class: "domain", "aria-label": name });
    const label = make("label", name, { class: "name", for: `share-${i}` });
    const exact = make("input", undefined, { type: "number", id: `exact-${i}`, min: 0, max: 100, step: 0.1,
      "aria-label": `${name}, percent` });
    const lock = make("input", undefined, { type: "checkbox", id: `lock-${i}`, "aria-label": `lock ${name}` });
    const slider = make("input", undefined, { type: "range", id: `share-${i}`, min: 0, max: 100, step: 0.1 });
    const lockLabel = make("label", " lock");
    lockLabel.prepend(lock);
    slider.addEventListener("input", () => move(i, slider.value / 100));
    exact.addEventListener("change", () => move(i, (Number(exact.value) || 0) / 100));
    lock.addEventListener("change", () => {
      state.locked[i] = lock.checked;
      show();
    });
    set.append(label, exact, lockLabel, slider, make("div", "", { class: "note", id: `note-${i}` }));
    get("domains").append(set);
  });
  for (const [name, weights] of given) {
    const button = make("button", `Start from ${name}`, { type: "button" });
    button.addEventListener("click", () => setWeights([...weights]));
    get("starts").append(button);
  }
}

function showDomains() {
  const limits = caps();
  facts.domains.forEach((name, i) => {
    const [slider, exact] = [get(`share-${i}`), get(`exact-${i}`)];
    const seen = textEpochs(i);
    const words = [percent(state.weights[i])];
    if (seen !== null) words.push(`${fixed(seen, 2)} epochs`);
    if (limits[i] < 1) words.push(`at most ${percent(limits[i])}`);
    const passed = facts.groups.find((group) => group.places.includes(i) && !meetsGroup(state.weights, group));
    if (passed) words.push(`${passed.name} ${percent(together(state.weights, passed))}: not allowed`);
    slider.value = 100 * state.weights[i];
    slider.setAttribute("aria-valuetext", words.join(", "));
    slider.disabled = exact.disabled = state.locked[i];
    if (document.activeElement !== exact) exact.value = (100 * state.weights[i]).toFixed(2);
    get(`lock-${i}`).checked = state.locked[i];
    get(`note-${i}`).textContent = words.slice(1).join(", ");
    get(`note-${i}`).classList.toggle("warning", Boolean(passed));
  });
}

// Sliders move freely past the bounds of groups, which the page says: another choice needs another recipe.
function showGroups() {
  get("together").replaceChildren(...facts.groups.map((group) => {
    const [sum, members] = [together(state.weights, group), group.places.map((i) => facts.domains[i]).join(", ")];
    const ends = [group.min > 0 ? `at least ${percent(group.min)}` : null, group.max < 1 ? `at most ${percent(group.max)}` : null];
    const met = meetsGroup(state.weights, group);
    return make("p", `${group.name} (${members}): ${percent(sum)} together${met ? "" : ", which was not allowed"}; it was to have `
      + `${ends.filter(Boolean).join(" and ")}`, { class: met ? "muted" : "warning" });
  }));
}

// A table with words above its columns, and a row of cells beside each name.
function fillTable(id, words, rowNames, cellsOf) {
  const line = (cells) => {
    const row = make("tr");
    row.append(...cells);
    return row;
  };
  const [top, body] = [make("thead"), make("tbody")];
  top.append(line(words.map((word) => make("th", word, { scope: "col" }))));
  body.append(...rowNames.map((name, i) => line([make("th", name, { scope: "row" }), ...cellsOf(i)])));
  get(id).replaceChildren(top, body);
}

function showLosses() {
  const losses = predict(state.weights);
  const half = halfWidths(losses, state.weights);
  const near = nearestRun(state.weights);
  const words = [promised ? "loss on" : "experts say of", "here",
    ...(promised ? [`${Math.round(100 * facts.coverage)} % interval`] : []), ...given.map(([name]) => name),
    ...(near ? ["nearest run (measured)"] : [])];
  fillTable("losses", words, names, (k) => [
    make("td", number(losses[k]), { "data-value": losses[k], "data-half": half[k] }),
    ...(promised ? [make("td", interval(losses[k], half[k], k))] : []),
    ...given.map(([other]) => make("td", number(givenLosses.get(other)[k]))),
    ...(near ? [make("td", number(near.losses[k]))] : [])]);
  get("losses").prepend(make("caption", caption()));
  get("spoken").textContent = `${names[0]}: ${number(losses[0])}`
    + `${Number.isFinite(half[0]) ? ` plus or minus ${number(half[0])}` : ""}; `
    + given.map(([name]) => `${name} ${number(givenLosses.get(name)[0])}`).join(", ");
  if (near) showNearest(near);
}

function showNearest(near) {
  const distance = percent(near.distance);
  get("nearest").textContent = `The nearest real run is ${runs.ids[near.number]}: ${distance} of its tokens are elsewhere.`
    + (facts.runs.scale === null ? "" : ` It trained ${facts.runs.scale}; what is predicted is of another size.`);
  get("far").textContent = facts.widest_gap !== null && near.distance > facts.widest_gap
    ? `This has left the swarm: the nearest run differs in ${distance} of the tokens, runs among themselves in at most `
      + `${percent(facts.widest_gap)}. The law knows nothing out here.` : "";
}

function interval(loss, half, k) {
  return Number.isFinite(half) ? `${number(within(loss - half, k))} to ${number(within(loss + half, k))}` : "-";
}

// The end of an interval, no farther than values can lie.
function within(end, k) {
  const [least, most] = bounds[k];
  return Math.min(Math.max(end, least ?? -Infinity), most ?? Infinity);
}

// What the values are in, and which way is better where that is not lower.
function note(k) {
  return [promised ? units[k] : null, signs[k] < 0 ? "higher is better" : null].filter(Boolean).join(", ");
}

function caption() {
  if (!promised) return "Less is better; in no unit, for no run on a mixture gives these numbers a scale. The first row is what "
    + "was to be made small.";
  const groups = Map.groupBy(names, (_, k) => note(k) || "in its own unit");
  const [usual, ...others] = [...groups.keys()].sort((a, b) => groups.get(b).length - groups.get(a).length);
  const words = others.map((other) => `${[...new Set(groups.get(other))].join(", ")}: ${other}`);
  if (others.length || usual !== "in its own unit") words.unshift(usual);
  words.push(`the first row is what was to be made ${signs[0] < 0 ? "large" : "small"}`);
  return words.join("; ").replace(/^./, (letter) => letter.toUpperCase());
}

function showEffects() {
  const table = effects(state.weights, 0.02);
  const most = Math.max(...table.flat().filter(Number.isFinite).map(Math.abs), 1e-12);
  fillTable("effects", ["two points more of", ...names], facts.domains, (i) => table[i].map((change, k) => {
    const cell = make("td", Number.isFinite(change) ? (1000 * change).toFixed(1).replace(/^-0\.0$/, "0.0") : "-");
    const colour = signs[k] * change <= 0 ? "var(--blue)" : "var(--orange)";
    cell.style.background = `color-mix(in srgb, ${colour} ${Math.round((45 * Math.abs(change || 0)) / most)}%, transparent)`;
    return cell;
  }));
  showMore();
}

// Indented, so that it can stand below the line `baselines:` of a recipe.
function yaml() {
  const word = (name) => (/^[A-Za-z_][\w-]*$/.test(name) && !/^(true|false|null|yes|no|on|off)$/i.test(name)
    ? name : JSON.stringify(name));
  const lines = facts.domains.map((name, i) => `    ${word(name)}: ${Number(state.weights[i].toFixed(6))}`);
  return ["  explored:", ...lines, ""].join("\n");
}

// The text to copy, and what stands above it.
function chosenText() {
  const trainer = facts.exports[get("format").value];
  if (trainer === undefined) return [yaml(), get("for-baselines").textContent];
  const epochs = facts.tokens && facts.domains.map((_, i) => textEpochs(i));
  return [exported(trainer.parts, state.weights, epochs),
    `${trainer.title}: ${trainer.file}, weights are shares of ${trainer.weighs}`
    + trainer.beside.map((file) => `; ${file} beside it is as regmix export writes it`).join("")];
}

function showText() {
  const [text, title] = chosenText();
  get("text").value = text;
  get("text-title").textContent = title;
  get("for-baselines-words").hidden = get("format").value !== "baselines";
}

function buildFormats() {
  const formats = [["baselines", "YAML for baselines"], ...Object.entries(facts.exports).map(([name, { title }]) => [name, title])];
  get("format").append(...formats.map(([value, title]) => make("option", title, { value })));
  get("format").addEventListener("change", showText);
}

function fragment() {
  const locked = facts.domains.filter((_, i) => state.locked[i]);
  return new URLSearchParams([
    ...facts.domains.map((name, i) => [`w.${name}`, String(Number(state.weights[i].toPrecision(12)))]),
    ...locked.map((name) => ["lock", name]),
    ...(facts.tokens === null ? [] : [["budget", state.budget], ["epochs", state.epochs],
      ["capped", state.capped ? 1 : 0]])]).toString();
}

// Take what an address says, as far as it is a mixture of these domains; returns whether it was.
function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const weights = facts.domains.map((name) => Number(said.get(`w.${name}`) ?? NaN));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (!weights.every((weight) => weight >= 0) || !(Math.abs(total - 1) < 0.01)) return false;
  if (Number(said.get("budget")) > 0) state.budget = Number(said.get("budget"));
  if (Number(said.get("epochs")) > 0) state.epochs = Number(said.get("epochs"));
  if (said.has("capped")) state.capped = said.get("capped") === "1" && facts.tokens !== null;
  state.locked = facts.domains.map((name) => said.getAll("lock").includes(name));
  setWeights(weights.map((weight) => weight / total));
  return true;
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    get("copied").textContent = `${what} copied`;
  } catch {
    get("text").value = text;
    get("text").select();
    get("copied").textContent = "Not allowed to copy: it is selected below";
  }
}

// A table that is wider than its place says so, until its last column is seen.
function showMore() {
  for (const box of document.querySelectorAll(".scroll")) {
    const more = box.scrollWidth - box.clientWidth - box.scrollLeft > 1;
    box.classList.toggle("more", more);
    box.nextElementSibling.textContent = more ? "More columns: scroll the table sideways \u2192" : "";
  }
}

function show() {
  showDomains();
  showGroups();
  showLosses();
  drawTrade();
  get("budget").value = state.budget;
  get("epochs").value = state.epochs;
  get("capped").checked = state.capped;
  showText();
  history.replaceState(null, "", `#${fragment()}`);
  showMore();
  clearTimeout(state.resting);
  state.resting = setTimeout(showEffects, RESTED);
}

// Begins the page. What is returned is there for whoever drives the page from the console.
function start() {
  buildDomains();
  buildTrade();
  buildFormats();
  for (const [id, key] of [["budget", "budget"], ["epochs", "epochs"]]) {
    get(id).disabled = facts.tokens === null;
    get(id).addEventListener("change", () => {
      if (Number(get(id).value) > 0) state[key] = Number(get(id).value);
      setWeights(state.weights);
    });
  }
  get("capped").disabled = facts.tokens === null;
  get("capped").addEventListener("change", () => {
    state.capped = get("capped").checked;
    setWeights(state.weights);
  });
  get("copy-link").addEventListener("click", () => copy(location.href, "Link"));
  get("copy-text").addEventListener("click", () => copy(get("text").value, get("format").selectedOptions[0].text));
  addEventListener("hashchange", readAddress);
  addEventListener("resize", showMore);
  for (const box of document.querySelectorAll(".scroll")) box.addEventListener("scroll", showMore);
  if (!readAddress()) setWeights([...facts.mixtures.chosen]);
  return { facts, state, names, predict, predictOne, halfWidths, nearestRun, effects, setWeights, caps };
}
