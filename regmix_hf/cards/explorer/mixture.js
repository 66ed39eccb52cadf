// A mixture that always sums to 1: one weight is moved, the others give way in proportion.

// Scale the free weights to a sum, none above its cap; weights that are all 0 share in proportion to `spare`.
function fill(weights, free, total, caps, spare) {
  let open = free.filter((i) => caps[i] > 0);
  const basis = open.some((i) => weights[i] > 0) ? weights : spare;
  const filled = new Map(free.map((i) => [i, 0]));
  let left = total;
  while (open.length && left > 1e-15) {
    const sum = open.reduce((all, i) => all + basis[i], 0);
    const share = (i) => (sum > 0 ? (basis[i] / sum) * left : left / open.length);
    const full = open.filter((i) => share(i) >= caps[i]);
    if (!full.length) {
      open.forEach((i) => filled.set(i, share(i)));
      return filled;
    }
    full.forEach((i) => { filled.set(i, caps[i]); left -= caps[i]; });
    open = open.filter((i) => !full.includes(i));
    if (open.length && !open.some((i) => basis[i] > 0)) return fillEvenly(filled, open, left, caps);
  }
  return filled;
}

// What is left when every domain with weight is at its cap goes to the others alike.
function fillEvenly(filled, open, left, caps) {
  for (const [i, value] of fill(caps.map(() => 1), open, left, caps, caps)) filled.set(i, value);
  return filled;
}

// Move one weight to a value as far as locks and caps allow; returns the new weights.
function giveWay(weights, moved, value, locked, caps, spare) {
  const free = weights.map((_, i) => i).filter((i) => i !== moved && !locked[i]);
  const kept = weights.reduce((sum, weight, i) => sum + (locked[i] && i !== moved ? weight : 0), 0);
  const room = free.reduce((sum, i) => sum + caps[i], 0);
  const rest = Math.max(0, 1 - kept);
  const most = Math.min(caps[moved], rest);
  const here = Math.min(Math.max(value, rest - room, 0), most);
  const others = fill(weights, free, rest - here, caps, spare);
  return weights.map((weight, i) => (i === moved ? here : others.has(i) ? others.get(i) : weight));
}

// The nearest mixture in proportion that meets the caps, or null where the text does not suffice.
function meet(weights, locked, caps, spare) {
  const free = weights.map((_, i) => i).filter((i) => !locked[i]);
  const kept = weights.reduce((sum, weight, i) => sum + (locked[i] ? weight : 0), 0);
  if (free.reduce((sum, i) => sum + caps[i], kept) < 1 - 1e-9) return null;
  const filled = fill(weights, free, 1 - kept, caps, spare);
  return weights.map((weight, i) => (filled.has(i) ? filled.get(i) : weight));
}

// What domains that are bounded together have; bounds may be missed by the rounding of a chosen mixture.
function together(weights, group) {
  return group.places.reduce((sum, i) => sum + weights[i], 0);
}

function meetsGroup(weights, group) {
  const sum = together(weights, group);
  return sum >= group.min - 2e-6 && sum <= group.max + 2e-6;
}

// Share of the tokens by which two mixtures differ.
function apart(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i] - b[i]);
  return sum / 2;
}

function entropy(weights) {
  return weights.reduce((sum, weight) => (weight > 0 ? sum - weight * Math.log(weight) : sum), 0);
}

// Random numbers that are the same on every visit (mulberry32).
function randomNumbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// Mixtures between two of some given ones that meet the caps.
function mixturesBetween(given, count, caps, random) {
  const between = [];
  for (let k = 0; k < count; k++) {
    const [a, b] = [0, 1].map(() => given[Math.floor(random() * given.length)]);
    const share = random();
    between.push(Array.from(a, (weight, i) => share * weight + (1 - share) * b[i]));
  }
  return between.filter((weights) => weights.every((weight, i) => weight <= caps[i] + 1e-9));
}

// Of points [x, y, ...] those that no other is below in both, from left to right.
function paretoFront(points, [across, up]) {
  const front = [];
  let lowest = Infinity;
  for (const point of [...points].sort((a, b) => across * (a[0] - b[0]) || up * (a[1] - b[1]))) {
    if (up * point[1] < lowest) { front.push(point); lowest = up * point[1]; }
  }
  return front;
}
