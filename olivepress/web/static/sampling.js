// The next token, as ONNX Runtime GenAI chooses it: by the same settings, and for a seed by the same draws.
import { mersenne } from "./packages/mersenne.js";

/** Places of the `count` largest of the scores, largest first; of equal ones the first is first. */
function largest(scores, count) {
  const best = [];
  for (let token = 0; token < scores.length; token++) {
    if (best.length === count && !(scores[token] > scores[best[count - 1]])) continue;
    let place = best.length;
    while (place > 0 && scores[token] > scores[best[place - 1]]) place--;
    best.splice(place, 0, token);
    if (best.length > count) best.pop();
  }
  return best;
}

function softmax(scores, temperature) {
  const most = scores.reduce((a, b) => Math.max(a, b));
  const found = Float64Array.from(scores, (score) => Math.exp((score - most) / temperature));
  const sum = found.reduce((a, b) => a + b);
  return found.map((each) => each / sum);
}

/** How many of the probabilities, largest first, make up `top_p`. */
function nucleus(probabilities, top_p) {
  let sum = 0;
  for (let place = 0; place < probabilities.length; place++) if ((sum += probabilities[place]) >= top_p) return place + 1;
  return probabilities.length;
}

/**
 * A function of the last token's logits, which it changes, and of all tokens so far: the next token.
 *
 * temperature 0: the likeliest. top_k 0, top_p 0 or 1: all of them. seed: an integer.
 */
export function chooser({ temperature, top_k, top_p, repetition_penalty, seed }) {
  const random = mersenne(seed);
  const word = () => random.next() >>> 0;
  // C++'s discrete_distribution: a number below 1 of two words, the lower first; nothing is drawn where one is left
  const drawn = (probabilities) => {
    if (probabilities.length < 2) return 0;
    const low = word(), number = (low + word() * 2 ** 32) / 2 ** 64;
    let sum = 0;
    const place = probabilities.findIndex((each) => (sum += each) >= number);
    return place < 0 ? probabilities.length - 1 : place;
  };
  return (scores, sequence) => {
    if (repetition_penalty !== 1) {
      for (const token of new Set(sequence)) scores[token] *= scores[token] < 0 ? repetition_penalty : 1 / repetition_penalty;
    }
    const [likeliest] = largest(scores, 1);
    if (!Number.isFinite(Number(scores[likeliest]))) throw new Error("The logits are not finite: the model is broken.");
    if (temperature === 0 || top_k === 1) return likeliest;
    // a partial order where there is a top-k: all the vocabulary in order takes time for every token
    const tokens = top_k > 1 && top_k < scores.length
      ? largest(scores, top_k) : Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]);
    const kept = tokens.map((token) => scores[token]);
    const size = top_p > 0 && top_p < 1 ? nucleus(softmax(kept, temperature), top_p) : kept.length;
    return tokens[drawn(softmax(kept.slice(0, size), temperature))];
  };
}
