// What is known of the study, and what the law makes of a mixture.

const facts = JSON.parse(document.getElementById("facts").textContent);
const predictTargets = buildLaw(facts.law);
const runs = { weights: rows(facts.runs.weights), losses: rows(facts.runs.losses), ids: facts.runs.ids };
// The combined target stands first, as in every table of the page.
const names = [facts.target.name, ...facts.targets];

function combine(losses) {
  const shares = facts.target.coefficients;
  if (shares === null) return Math.max(...losses);
  return shares.reduce((sum, share, i) => (share > 0 ? sum + share * losses[i] : sum), 0);
}

// Losses of the combined target and then of every target.
function predict(weights) {
  const losses = Array.from(predictTargets(Float64Array.from(weights)));
  return [combine(losses), ...losses];
}

// Half the width of every interval (regmix_hf.regression.intervals).
function halfWidths(losses, weights) {
  const mixed = entropy(weights);
  return losses.map((loss, i) => {
    const { mean, spread, growth, level, quantile, seeds, farthest } = facts.intervals[i];
    const away = [loss, mixed].map((place, k) =>
      Math.min(farthest, Math.max(-farthest, (place - mean[k]) / spread[k])));
    return Math.hypot(quantile * level * Math.exp(away[0] * growth[0] + away[1] * growth[1]), seeds);
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
