// What is known of the study, and what the law makes of a mixture.

const facts = JSON.parse(document.getElementById("facts").textContent);
// The law makes every target small; what is better when higher is its negative.
const law = buildLaw(facts.law);
// Without what rests on more epochs than any fitted run read.
const known = facts.law.repetition ? buildLaw(facts.law, doubles(facts.law.repetition.most.data)) : law;
const targetsBy = (law, weights) => Array.from(law(weights), (value, i) => facts.signs[i] * value);
const runs = { weights: rows(facts.runs.weights), losses: rows(facts.runs.losses), ids: facts.runs.ids };
// The combined target stands first, as in every table of the page.
const names = [facts.target.name, ...facts.targets];
const units = [facts.target.unit, ...facts.units];
const signs = [facts.target.sign, ...facts.signs];

function combine(losses) {
  const { used, shares, factors, offsets, sign } = facts.target;
  const small = used.map((target, k) => losses[target] * factors[k] + offsets[k]);
  return sign * (shares === null ? Math.max(...small) : small.reduce((sum, value, k) => sum + shares[k] * value, 0));
}

// Losses of the combined target and then of every target.
function predict(weights, by = law) {
  const losses = targetsBy(by, Float64Array.from(weights));
  return [combine(losses), ...losses];
}

// Half the width of every interval (regmix_hf.regression.intervals).
function halfWidths(losses, weights) {
  const [mixed, sure] = [entropy(weights), known === law ? losses : predict(weights, known)];
  return losses.map((loss, i) => {
    const { mean, spread, growth, level, quantile, everywhere, farthest } = facts.intervals[i];
    const away = [loss, mixed].map((place, k) =>
      Math.min(farthest, Math.max(-farthest, (place - mean[k]) / spread[k])));
    return Math.hypot(quantile * level * Math.exp(away[0] * growth[0] + away[1] * growth[1]), everywhere, losses[i] - sure[i]);
  });
}

// The nearest run: its number, how far it is as a share of the tokens, and its measured losses.
function nearestRun(weights) {
  const distances = runs.weights.map((run) => apart(run, weights));
  const number = distances.indexOf(Math.min(...distances));
  const losses = Array.from(runs.losses[number]);
  return { number, distance: distances[number], losses: [combine(losses), ...losses] };
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
