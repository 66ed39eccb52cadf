// Two targets against each other: the runs, the given mixtures, where one is, and the front nobody beats in both.

const TRIED = 900;
const BOX = { left: 62, right: 545, top: 12, bottom: 335 };
let front = [];

function drawn(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function buildTrade() {
  const single = alone === null && names.length > 2 ? 1 : 0;
  for (const [id, chosen] of [["across", single], ["up", Math.min(single + 1, names.length - 1)]]) {
    names.forEach((name, k) => get(id).append(make("option", name, { value: k })));
    get(id).value = chosen;
    get(id).addEventListener("change", drawTrade);
  }
  get("along").addEventListener("input", drawTrade);
  get("take").addEventListener("click", () => {
    if (front.length) setWeights([...front[get("along").value].weights]);
  });
}

// The runs and the mixtures between them, and what is drawn for the caps and targets of now. A mixture is predicted
// once for each target that is looked at. Where experts alone speak, single domains are in the place of runs.
const cloud = { key: null, runs: [], tried: null };

function tryMixtures(x, y) {
  const key = JSON.stringify([x, y, state.capped && [state.budget, state.epochs]]);
  if (cloud.key === key) return;
  cloud.key = key;
  const random = randomNumbers(1);
  const known = (weights) => ({ weights: Array.from(weights), losses: [] });
  const loss = ({ weights, losses }, row) => (losses[row] ??= predictOne(weights, row));
  const anywhere = facts.domains.map(() => 1);
  if (cloud.tried === null) {
    const corners = anywhere.map((_, i) => anywhere.map((_, j) => Number(i === j)));
    const starts = [...(promised ? runs.weights : corners), ...given.map(([, weights]) => weights)];
    cloud.tried = [...starts, ...mixturesBetween(starts, TRIED, anywhere, random)].map(known);
  }
  const place = (tried) => Object.assign([loss(tried, x), loss(tried, y)], { weights: tried.weights });
  const limits = caps();
  const better = [signs[x], signs[y]];
  cloud.runs = cloud.tried.slice(0, runs.weights.length).map(place);
  const allowed = cloud.tried.filter(({ weights }) => weights.every((w, i) => w <= limits[i] + 1e-9)
    && facts.groups.every((group) => meetsGroup(weights, group))).map(place);
  // Between mixtures on the front lie better ones: once more from there.
  const best = paretoFront(allowed, better).map(({ weights }) => weights);
  const again = best.length ? mixturesBetween(best, TRIED / 3, limits, random) : [];
  front = paretoFront([...allowed, ...again.map(known).map(place)], better);
  get("along").max = Math.max(0, front.length - 1);
  get("along").value = Math.floor(front.length / 2);
}

function drawTrade() {
  const [x, y] = [Number(get("across").value), Number(get("up").value)];
  tryMixtures(x, y);
  const here = [x, y].map((row) => predictOne(state.weights, row));
  const known = given.map(([name]) => [givenLosses.get(name)[x], givenLosses.get(name)[y], name]);
  const all = [...cloud.runs, ...front, ...known, here];
  const scale = [0, 1].map((k) => {
    const values = all.map((point) => point[k]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = 0.05 * (high - low) || 0.01;
    return (value) => (value - low + margin) / (high - low + 2 * margin);
  });
  const at = (point) => [BOX.left + scale[0](point[0]) * (BOX.right - BOX.left),
    BOX.bottom - scale[1](point[1]) * (BOX.bottom - BOX.top)].map((value) => Number(value.toFixed(1)));
  const dot = (point, name, r) => drawn("circle", { class: name, cx: at(point)[0], cy: at(point)[1], r });
  const picked = front[get("along").value];
  const svg = get("trade");
  svg.replaceChildren(
    drawn("path", { class: "axis", fill: "none", d: `M${BOX.left} ${BOX.top}V${BOX.bottom}H${BOX.right}` }),
    ...cloud.runs.map((point) => dot(point, "run", 3)),
    drawn("polyline", { class: "front", points: front.map((point) => at(point).join(",")).join(" ") }),
    ...(picked ? [dot(picked, "frontpoint", 6)] : []),
    ...known.map((point) => dot(point, "named", 5)),
    ...labels(known.map((point) => [at(point), point[2]])).map(([spot, text]) => label(spot, text)),
    dot(here, "here", 7), label([at(here)[0], at(here)[1] - 12], "here"),
    drawn("text", { x: (BOX.left + BOX.right) / 2, y: 372, "text-anchor": "middle" }, axis(x)),
    drawn("text", { x: 14, y: 170, "text-anchor": "middle", transform: "rotate(-90 14 170)" }, axis(y)),
    ...ticks(all, 0, (value) => ({ x: at([value, all[0][1]])[0], y: 352, "text-anchor": "middle" })),
    ...ticks(all, 1, (value) => ({ x: BOX.left - 6, y: at([all[0][0], value])[1] + 4, "text-anchor": "end" })));
  get("trade-words").textContent = `Here ${names[x]} is ${number(here[0])} and ${names[y]} ${number(here[1])}. `
    + `The front holds ${front.length} of the mixtures tried between ${promised ? "runs" : "domains"}`
    + (picked ? `; the one marked has ${number(picked[0])} and ${number(picked[1])}.` : ".");
  get("along").setAttribute("aria-valuetext", picked ? `${number(picked[0])} and ${number(picked[1])}` : "none");
}

function axis(k) {
  if (!promised) return `what experts say of ${names[k]}`;
  return units[k] === "nats per token" ? `predicted loss on ${names[k]}`
    : `predicted ${names[k]}${note(k) ? ` (${note(k)})` : ""}`;
}

// Of points that lie closer together than a line of text is high, one label names all.
function labels(points) {
  const found = [];
  for (const [[x, y], text] of points) {
    const beside = found.find(([spot]) => Math.hypot(spot[0] - x, spot[1] - y) < 12);
    if (beside) beside[1] += `, ${text}`;
    else found.push([[x, y], text]);
  }
  return found;
}

function label([x, y], text) {
  const right = x > BOX.right - 8 * text.length;
  return drawn("text", { x: right ? x - 9 : x + 9, y: y + 4, "text-anchor": right ? "end" : "start" }, text);
}

function ticks(points, k, place) {
  const values = points.map((point) => point[k]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return [low, (low + high) / 2, high].map((value) => drawn("text", place(value), value.toFixed(3)));
}
