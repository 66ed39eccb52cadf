// The fitted laws, one builder per family of regmix_hf.regression: state -> (weights -> losses, one per target).
// Each is the formula of its Python class, in double precision.

const ROOT5 = Math.sqrt(5);

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function doubles(text) {
  return new Float64Array(bytes(text).buffer);
}

// A matrix of doubles as rows.
function rows({ shape, data }) {
  const values = doubles(data);
  return Array.from({ length: shape[0] }, (_, row) => values.subarray(row * shape[1], (row + 1) * shape[1]));
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function distance(a, b) {
  let square = 0;
  for (let i = 0; i < a.length; i++) square += (a[i] - b[i]) ** 2;
  return Math.sqrt(square);
}

// Matern 5/2 correlation at a distance in length scales.
function matern(a, b) {
  const far = ROOT5 * distance(a, b);
  return (1 + far + (far * far) / 3) * Math.exp(-far);
}

// Whether two mixtures are one.
function same(a, b) {
  return distance(a, b) < 1e-9 ? 1 : 0;
}

// The sum over runs of coefficient times correlation, for features that a function gives per target.
function process(weights_, coefficients_, features, correlation = matern) {
  const runs = rows(weights_);
  const coefficients = rows(coefficients_);
  const places = coefficients.map((row, target) =>
    row.some((value) => value !== 0) ? runs.map((run) => features(run, target)) : null);
  return (weights, target) => {
    if (places[target] === null) return 0;
    const here = features(weights, target);
    let sum = 0;
    for (let j = 0; j < runs.length; j++) {
      if (coefficients[target][j] !== 0) sum += coefficients[target][j] * correlation(here, places[target][j]);
    }
    return sum;
  };
}

function linear(state) {
  const coef = rows(state.coef_);
  const intercept = doubles(state.intercept_.data);
  return (weights) => coef.map((row, target) => intercept[target] + dot(row, weights));
}

function logLinear(state) {
  const rate = rows(state.rate_);
  const [floor, scale] = [state.floor_, state.scale_].map((array) => doubles(array.data));
  return (weights) => rate.map((row, t) => floor[t] + scale[t] * Math.exp(dot(row, weights)));
}

function effectiveTokens(state) {
  const [affinity, saturation] = [rows(state.affinity_), rows(state.saturation_)];
  return (weights, target) =>
    Float64Array.from(weights, (weight, i) =>
      affinity[target][i] * Math.exp(Math.log(weight + state.offset) * saturation[target][i]));
}

function powerLaw(state) {
  const tokens = effectiveTokens(state);
  const harm = rows(state.harm_);
  const [floor, scale, exponent, offset] = [state.floor_, state.scale_, state.exponent_, state.offset_]
    .map((array) => doubles(array.data));
  return (weights) => harm.map((row, t) => {
    const total = tokens(weights, t).reduce((sum, value) => sum + value, offset[t]);
    return floor[t] + dot(row, weights) + scale[t] * total ** -exponent[t];
  });
}

function gaussianProcess(state) {
  const [lengths, mean] = [rows(state.lengths_), doubles(state.mean_.data)];
  const add = process(state.weights_, state.coefficients_, (weights, target) => {
    const roots = Array.from(weights, (weight) => Math.sqrt(weight + state.offset));
    const logs = Array.from(weights, (weight) => Math.log(weight + state.log_offset) / state.log_scale);
    // A fit of version 0.1 has length scales of the roots only.
    return lengths[target].map((length, k) => (k < roots.length ? roots[k] : logs[k - roots.length]) / length);
  });
  return (weights) => Array.from(mean, (value, target) => value + add(weights, target));
}

function krigedPowerLaw(state) {
  const [law, tokens] = [powerLaw(state.law), effectiveTokens(state.law)];
  const [lengths, totals] = [doubles(state.lengths_.data), doubles(state.totals_.data)];
  const add = process(state.weights_, state.coefficients_, (weights, target) =>
    tokens(weights, target).map((value) => Math.sqrt(value / totals[target]) / lengths[target]));
  return (weights) => law(weights).map((loss, target) => loss + add(weights, target));
}

// The scaled law at one size and length: a kriged power law, what too few parameters and tokens cost, and what
// runs of all sizes say of the mixture there.
function scaledLaw(state) {
  const [law, tokens] = [powerLaw(state.law), effectiveTokens(state.law)];
  const [ofSize, ofLength] = [rows(state.by_domain_of_size), rows(state.by_domain_of_length)];
  const [logSize, logLength, joint, spread, totals, lengths, offset, slope] = ["log_size", "log_length", "joint",
    "spread", "totals", "lengths", "offset", "slope"].map((name) => doubles(state[name].data));
  const roots = (length) => (weights, t) =>
    tokens(weights, t).map((value) => Math.sqrt(value / totals[t]) / length(t));
  const kriged = process(state.mixtures, state.kriged, roots((t) => lengths[t]));
  const alike = process(state.mixtures, state.alike, roots(() => state.length));
  const own = process(state.mixtures, state.own, roots(() => 1), same);
  return (weights) => law(weights).map((loss, t) => {
    const [size, length] = [logSize[t] + dot(ofSize[t], weights), logLength[t] + dot(ofLength[t], weights)];
    const [more, less] = [Math.max(size, length) / joint[t], Math.min(size, length) / joint[t]];
    const trend = loss + spread[t] * Math.exp(joint[t] * (more + Math.log1p(Math.exp(less - more))));
    return trend + offset[t] + slope[t] * trend + kriged(weights, t) + alike(weights, t) + own(weights, t);
  });
}

// Trees of one target: `node` holds the number of a split, `left` and `right` a node, or ~leaf.
function trees(state) {
  const [split, left, right] = [new Uint16Array(bytes(state.split).buffer),
    new Int8Array(bytes(state.left).buffer), new Int8Array(bytes(state.right).buffer)];
  const [leaf, threshold] = [new Float32Array(bytes(state.leaf).buffer), doubles(state.threshold)];
  return (weights) => {
    let [sum, node, first] = [0, 0, 0];
    for (const leaves of state.leaves) {
      let at = leaves > 1 ? 0 : -1;
      while (at >= 0) {
        const number = split[node + at];
        at = weights[state.feature[number]] <= threshold[number] ? left[node + at] : right[node + at];
      }
      sum += leaf[first + ~at];
      node += leaves - 1;
      first += leaves;
    }
    return sum;
  };
}

function lightgbm(state) {
  const targets = state.targets.map(trees);
  return (weights) => targets.map((target) => target(weights));
}

// A weighted mean of families; a member predicts the targets in which it has a share.
function auto(state) {
  const members = state.members.map((member) => ({ ...member, law: buildLaw(member.law) }));
  return (weights) => {
    const losses = new Array(state.num_targets).fill(0);
    for (const { law, targets, shares } of members) {
      law(weights).forEach((loss, i) => { losses[targets[i]] += shares[i] * loss; });
    }
    return losses;
  };
}

const FAMILIES = {
  auto, lightgbm, ridge: linear, own_weight: linear, log_linear: logLinear, power_law: powerLaw,
  gaussian_process: gaussianProcess, kriged_power_law: krigedPowerLaw, scaled_law: scaledLaw,
};

// What reading domains again costs (regmix_hf.regression.repetition), beside what the family says.
function repeated(law, state, most) {
  const [harm, threshold, passes] = [rows(state.harm), doubles(state.threshold.data), doubles(state.passes.data)];
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  return (weights) => Array.from(law(weights), (loss, t) => harm[t].reduce((sum, each, i) =>
    sum + each * softplus(Math.log1p(Math.min(weights[i] * passes[i], most?.[i] ?? Infinity)) - threshold[t]) ** 2, loss));
}

// `most`: epochs beyond which a domain counts as if read no more often, or null.
function buildLaw(state, most = null) {
  const law = FAMILIES[state.family](state);
  return state.repetition ? repeated(law, state.repetition, most) : law;
}
