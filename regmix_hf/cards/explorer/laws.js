// The fitted laws, one builder per family of regmix_hf.regression: state -> ((weights, target) -> loss).
// Each is the formula of its Python class, in double precision.

const ROOT5 = Math.sqrt(5);

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function doubles(text) {
  return new Float64Array(bytes(text).buffer);
}

// Numbers of half precision, of which none is infinite or none at all.
function halves(text) {
  return Float64Array.from(new Uint16Array(bytes(text).buffer), (word) => {
    const [exponent, fraction] = [(word >> 10) & 31, word & 1023];
    const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    return word >> 15 ? -size : size;
  });
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
  return (weights, t) => intercept[t] + dot(coef[t], weights);
}

function logLinear(state) {
  const rate = rows(state.rate_);
  const [floor, scale] = [state.floor_, state.scale_].map((array) => doubles(array.data));
  return (weights, t) => floor[t] + scale[t] * Math.exp(dot(rate[t], weights));
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
  return (weights, t) => {
    const total = tokens(weights, t).reduce((sum, value) => sum + value, offset[t]);
    return floor[t] + dot(harm[t], weights) + scale[t] * total ** -exponent[t];
  };
}

function gaussianProcess(state) {
  const [lengths, mean] = [rows(state.lengths_), doubles(state.mean_.data)];
  const add = process(state.weights_, state.coefficients_, (weights, target) => {
    const roots = Array.from(weights, (weight) => Math.sqrt(weight + state.offset));
    const logs = Array.from(weights, (weight) => Math.log(weight + state.log_offset) / state.log_scale);
    // A fit of version 0.1 has length scales of the roots only.
    return lengths[target].map((length, k) => (k < roots.length ? roots[k] : logs[k - roots.length]) / length);
  });
  return (weights, target) => mean[target] + add(weights, target);
}

function krigedPowerLaw(state) {
  const [law, tokens] = [powerLaw(state.law), effectiveTokens(state.law)];
  const [lengths, totals] = [doubles(state.lengths_.data), doubles(state.totals_.data)];
  const add = process(state.weights_, state.coefficients_, (weights, target) =>
    tokens(weights, target).map((value) => Math.sqrt(value / totals[target]) / lengths[target]));
  return (weights, target) => law(weights, target) + add(weights, target);
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
  return (weights, t) => {
    const [size, length] = [logSize[t] + dot(ofSize[t], weights), logLength[t] + dot(ofLength[t], weights)];
    const [more, less] = [Math.max(size, length) / joint[t], Math.min(size, length) / joint[t]];
    const trend = law(weights, t) + spread[t] * Math.exp(joint[t] * (more + Math.log1p(Math.exp(less - more))));
    return trend + offset[t] + slope[t] * trend + kriged(weights, t) + alike(weights, t) + own(weights, t);
  };
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
  return (weights, target) => targets[target](weights);
}

// A weighted mean of families; a member predicts the targets in which it has a share.
function auto(state) {
  const members = state.members.map((member) => ({ ...member, law: buildLaw(member.law) }));
  return (weights, target) => members.reduce((sum, { law, targets, shares }) => {
    const at = targets.indexOf(target);
    return at < 0 ? sum : sum + shares[at] * law(weights, at);
  }, 0);
}

// What domains give each token of a text beside the domain that gives it the most, tokens x domains in single precision,
// and the mean of minus the logarithm of that most.
function givenTokens(logs, shares, least, leastLeft) {
  const [values, numDomains] = [halves(logs), shares[0].length];
  const numTokens = values.length / shares.length;
  const relative = new Float32Array(numTokens * numDomains);
  const domains = new Float64Array(numDomains);
  let highest = 0;
  for (let token = 0; token < numTokens; token++) {
    let most = -Infinity;
    for (let e = 0; e < shares.length; e++) most = Math.max(most, values[e * numTokens + token]);
    for (let d = 0; d < numDomains; d++) {
      let [sum, size] = [0, 0];
      for (let e = 0; e < shares.length; e++) {
        const part = shares[e][d] * Math.exp(values[e * numTokens + token] - most);
        sum += part;
        size += Math.abs(part);
      }
      domains[d] = Math.max(sum, leastLeft * size);
    }
    const largest = domains.reduce((a, b) => Math.max(a, b));
    domains.forEach((value, d) => { relative[token * numDomains + d] = Math.max(value / largest, least); });
    highest += most + Math.log(largest);
  }
  return { relative, level: -highest / Math.max(numTokens, 1) };
}

// Minus the mean logarithm of what a mixture of the domains gives a token. Probabilities are multiplied as long as that
// leaves a number, for logarithms take most of the time.
function mixedLoss({ relative, level }, weights) {
  let [sum, product] = [0, 1];
  for (let at = 0; at < relative.length;) {
    let given = 0;
    for (let d = 0; d < weights.length; d++, at++) given += weights[d] * relative[at];
    product *= given;
    if (product < 1e-200) {
      sum += Math.log(product);
      product = 1;
    }
  }
  const numTokens = Math.max(relative.length / weights.length, 1);
  return level - (sum + Math.log(product)) / numTokens;
}

// Experts of one domain each, on a line through the runs.
function experts(state) {
  const [offset, slope, units, shares] = [doubles(state.offset_.data), doubles(state.slope_.data),
    doubles(state.units.data), rows(state.shares)];
  const texts = state.texts.map((text) => givenTokens(text, shares, state.least, state.least_left));
  return (weights, t) => offset[t] + slope[t] * units[t] * mixedLoss(texts[t], weights);
}

function expertsAndLaw(state) {
  const [formula, law, share] = [experts(state.experts), krigedPowerLaw(state.law), doubles(state.share.data)];
  return (weights, t) => (share[t] > 0 ? share[t] * formula(weights, t) : 0) + (1 - share[t]) * law(weights, t);
}

const FAMILIES = {
  auto, experts, lightgbm, ridge: linear, own_weight: linear, log_linear: logLinear, power_law: powerLaw,
  experts_and_law: expertsAndLaw, gaussian_process: gaussianProcess, kriged_power_law: krigedPowerLaw, scaled_law: scaledLaw,
};

// What reading domains again costs (regmix_hf.regression.repetition), beside what the family says.
function repeated(law, state, most) {
  const [harm, threshold, passes] = [rows(state.harm), doubles(state.threshold.data), doubles(state.passes.data)];
  const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
  return (weights, t) => harm[t].reduce((sum, each, i) =>
    sum + each * softplus(Math.log1p(Math.min(weights[i] * passes[i], most?.[i] ?? Infinity)) - threshold[t]) ** 2,
  law(weights, t));
}

// `most`: epochs beyond which a domain counts as if read no more often, or null.
function buildLaw(state, most = null) {
  const law = FAMILIES[state.family](state);
  return state.repetition ? repeated(law, state.repetition, most) : law;
}
