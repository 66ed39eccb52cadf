// What other trainers are told of a mixture: `facts.exports` has their files in parts, which are joined here.

const MARK = /\ue000([a-z]+)(4?)\ue002/g;

// Never with an exponent, which not every reader of YAML takes for a number.
const plain = (value) => value.toFixed(16).replace(/0+$/, "").replace(/\.$/, ".0");

function sharesOf(weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

// As `regmix export` does it, the largest share comes first, and domains without one are left out.
// `epochs`: how often the text of each domain is read, or null.
function exported(parts, weights, epochs) {
  const present = weights.map((_, i) => i).filter((i) => weights[i] > 1e-12).sort((a, b) => weights[b] - weights[a]);
  const tokens = sharesOf(weights.map((weight) => (weight > 1e-12 ? weight : 0)));
  const lengths = facts.tokens_per_document;
  const numbers = {
    tokens,
    documents: lengths && sharesOf(tokens.map((share, i) => share / lengths[i])),
    repetition: tokens.map((_, i) => Math.max(1, Math.ceil(100 * (epochs?.[i] ?? 0)) / 100)),
  };
  const fill = (entry, i) => entry.replace(MARK, (_, kind, short) =>
    (short ? numbers[kind][i].toFixed(4) : plain(numbers[kind][i])));
  return parts.map((part) => (typeof part === "string" ? part
    : present.map((i) => fill(part.entries[i], i)).join(part.between))).join("");
}
