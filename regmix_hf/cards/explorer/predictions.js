// What is known of the study, and what the law makes of a mixture.

const facts = JSON.parse(document.getElementById("facts").textContent);
// The law makes every target small; what is better when higher is its negative.
const law = buildLaw(facts.law);
// Without what rests on more epochs than any fitted run read.
const known = facts.law.repetition ? buildLaw(facts.law, doubles(facts.law.repetition.most.data)) : law;
const runs = { weights: rows(facts.runs.weights), losses: rows(facts.runs.losses), ids: facts.runs.ids };
// Without a run on any mixture experts rank mixtures, and what they say is no loss of a model.
const { promised } = facts;
// Rows of every table of the page: what was to be made good first, then each target. A target that alone was asked
// for is one of them, and stands once.
const { alone } = facts.target;
const shown = facts.targets.map((_, t) => t).sort((a, b) => (b === alone) - (a === alone));
const first = (whole, each) => [...(alone === null ? [whole] : []), ...shown.map((t) => each[t])];
const names = first(facts.target.name, facts.targets);
const units = first(facts.target.unit, facts.units);
const signs = first(facts.target.sign, facts.signs);
const intervals = first(facts.target.interval, facts.intervals);
const bounds = first(facts.target.bounds, facts.bounds);

// What is made of all targets together; `lossOf` gives one of them.
function combine(lossOf) {
  const { used, shares, factors, offsets, sign } = facts.target;
  const small = used.map((target, k) => lossOf(target) * factors[k] + offsets[k]);
  return sign * (shares === null ? Math.max(...small) : small.reduce((sum, value, k) => sum + shares[k] * value, 0));
}

// The prediction of one row.
function predictOne(weights, row, by = law) {
  const lossOf = (target) => facts.signs[target] * by(weights, target);
  const target = shown[alone === null ? row - 1 : row];
  return target === undefined ? combine(lossOf) : lossOf(target);
}

// Those of all rows.
function predict(weights, by = law) {
  const losses = facts.targets.map((_, target) => facts.signs[target] * by(weights, target));
  return first(alone === null ? combine((target) => losses[target]) : null, losses);
}

// Half the width of every interval (regmix_hf.regression.intervals); NaN where too few runs measured a target.
function halfWidths(losses, weights) {
  const [mixed, sure] = [entropy(weights), known === law ? losses : predict(weights, known)];
  return losses.map((loss, i) => {
    const { mean, spread, growth, level, quantile, everywhere, farthest } = intervals[i];
    const away = [loss, mixed].map((place, k) =>
      Math.min(farthest, Math.max(-farthest, (place - mean[k]) / spread[k])));
    const size = (quantile ?? NaN) * level * Math.exp(away[0] * growth[0] + away[1] * growth[1]);
    return Math.hypot(size, everywhere, losses[i] - sure[i]);
  });
}

// The nearest run: its number, how far it is as a share of the tokens, and its measured losses; null without runs.
function nearestRun(weights) {
  if (!runs.ids.length) return null;
  const distances = runs.weights.map((run) => apart(run, weights));
  const number = distances.indexOf(Math.min(...distances));
  const losses = Array.from(runs.losses[number]);
  return { number, distance: distances[number], losses: first(combine((target) => losses[target]), losses) };
}

// Change of every loss when a domain gets `more` of the tokens and all others give way in proportion.
function effects(weights, more) {
  const before = predict(weights);
  return weights.map((weight, i) => {
    if (weight >= 1) return before.map(() => NaN);
    const step = Math.min(more, 1 - weight);
    const after = weights.map((other, j) => (i === j ? weight + step : other * (1 - step / (1 - weight))));
    return predict(after).map((loss, k) => loss - before[k]);
  });
}
