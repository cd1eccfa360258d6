// operators/native/attention.cu on a processor, thread by thread, against its arithmetic in double precision: a line a case
// with the largest error, and status 1 if one is too large. On a card: tests/gpu/test_attention_on_cuda.py.

#include "cuda_on_cpu.h"

#include "attention.cu"

#include <climits>
#include <cstdio>
#include <random>

enum { POSITIONS = 2200, WIDEST = 64 };  // of cos and sin
constexpr double MOST = 2e-3;            // float16 results, and for several tokens float16 weights
constexpr half_bits NOT_A_NUMBER = 0x7e00;

struct Case {
  const char* name;
  int size, kv_heads, group, rotated, window, tokens;
  std::vector<int> pasts;  // of each row
  bool in_place;           // the cache before and behind is one buffer
};

static std::mt19937 numbers(1);
static int wrong_length;

static std::vector<half_bits> random_halves(size_t count) {
  std::normal_distribution<float> normal;
  std::vector<half_bits> found(count);
  for (half_bits& one : found) one = to_half(normal(numbers));
  return found;
}

static void run(const Case& c, const Attention& a) {
  const unsigned rows = (unsigned)c.pasts.size(), heads = rows * c.kv_heads * c.group;
  const int total = *max_element(c.pasts.begin(), c.pasts.end()) + c.tokens;
  if (c.tokens > 1 || !c.in_place)
    launch(c.in_place ? c.tokens : total, rows * c.kv_heads, [=] { place(a, c.size); });
  void (*const one)(Attention) = c.size == 64 ? attend_one_64 : c.size == 96 ? attend_one_96 : attend_one_128;
  void (*const several)(Attention) = c.size == 64 ? attend_64 : c.size == 96 ? attend_96 : attend_128;
  if (c.tokens == 1)
    launch(heads, SHARES, [=] { one(a); });
  else
    launch((c.tokens + TILE - 1) / TILE, heads, [=] { several(a); });
}

// The largest error of a row's results; infinite where a key, a value or the past is not in the cache as it should be.
static double error_of(const Case& c, const Attention& a, int row, const std::vector<half_bits>& keys_before,
                       const std::vector<half_bits>& values_before) {
  const int heads = c.kv_heads * c.group, size = c.size, past = c.pasts[row];
  double worst = 0;
  for (int head = 0; head < heads; ++head) {
    const size_t cache = ((size_t)row * c.kv_heads + head / c.group) * a.capacity * size;
    for (int i = 0; i < past * size; ++i)
      if (a.keys[cache + i] != keys_before[cache + i] || a.values[cache + i] != values_before[cache + i])
        return INFINITY;
    for (int token = 0; token < c.tokens; ++token) {
      const int position = past + token, from = c.window > 0 ? max(0, position + 1 - c.window) : 0;
      const size_t at = (size_t)row * c.tokens + token, new_one = cache + (size_t)position * size;
      for (int d = 0; d < size; ++d) {
        const size_t of = at * a.kv_stride + (size_t)(head / c.group) * size;
        if (a.keys[new_one + d] != rotated(a, a.k + of, d, position) || a.values[new_one + d] != a.v[of + d])
          return INFINITY;
      }
      std::vector<double> weights, query;
      for (int d = 0; d < size; ++d)
        query.push_back(to_float(rotated(a, a.q + at * a.q_stride + (size_t)head * size, d, position)) * a.scale);
      double sum = 0;
      for (int key = from; key <= position; ++key) {
        double score = 0;
        for (int d = 0; d < size; ++d) score += query[d] * to_float(a.keys[cache + (size_t)key * size + d]);
        weights.push_back(exp(score));
        sum += weights.back();
      }
      for (int d = 0; d < size; ++d) {
        double expected = 0;
        for (int key = from; key <= position; ++key)
          expected += weights[key - from] * to_float(a.values[cache + (size_t)key * size + d]);
        const double error = fabs(expected / sum - to_float(a.y[(at * heads + head) * size + d]));
        if (!(error <= worst)) worst = error;
      }
    }
  }
  return worst;
}

static double check(const Case& c) {
  const int rows = (int)c.pasts.size(), heads = c.kv_heads * c.group, stride = (heads + 2 * c.kv_heads) * c.size;
  const int total = *max_element(c.pasts.begin(), c.pasts.end()) + c.tokens, capacity = total + 7;
  const size_t cached = (size_t)rows * c.kv_heads * capacity * c.size;
  const auto qkv = random_halves((size_t)rows * c.tokens * stride);
  auto keys_before = random_halves(cached), values_before = random_halves(cached);
  for (int i = 0; i < rows * c.kv_heads; ++i)  // what lies behind a row's past is read by nobody
    for (int at = c.pasts[i / c.kv_heads] * c.size; at < capacity * c.size; ++at)
      keys_before[(size_t)i * capacity * c.size + at] = values_before[(size_t)i * capacity * c.size + at] =
          NOT_A_NUMBER;
  std::vector<half_bits> keys = keys_before, values = values_before, y((size_t)rows * c.tokens * heads * c.size),
                         cos(POSITIONS * WIDEST), sin(POSITIONS * WIDEST);
  if (!c.in_place) std::fill(keys.begin(), keys.end(), NOT_A_NUMBER), values = keys;
  for (int i = 0; c.rotated && i < POSITIONS * (c.rotated / 2); ++i) {
    const double angle = i / (c.rotated / 2) * pow(1e4, -2.0 * (i % (c.rotated / 2)) / c.rotated);
    cos[i] = to_half((float)::cos(angle)), sin[i] = to_half((float)::sin(angle));
  }
  std::vector<int> right, lengths(rows);
  for (int past : c.pasts) right.push_back(past + c.tokens - 1);
  // before the wait they may be anything: nothing but time hangs on what is asked for early
  begun = [&] { std::fill(lengths.begin(), lengths.end(), wrong_length); };
  ended = [&] { lengths = right; };
  std::vector<float> shares((size_t)rows * heads * SHARES * (c.size + 2), NAN);
  std::vector<unsigned> counts(rows * heads);
  const half_bits *k = qkv.data() + heads * c.size, *v = k + c.kv_heads * c.size;
  const Attention a = {qkv.data(), k, v, cos.data(), sin.data(), c.in_place ? nullptr : keys_before.data(),
                       values_before.data(), keys.data(), values.data(), y.data(), lengths.data(), shares.data(),
                       counts.data(), stride, stride, capacity, capacity, c.tokens, c.kv_heads, c.group, c.rotated,
                       POSITIONS, c.window, total == c.tokens, 1 / sqrtf((float)c.size)};
  double worst = 0;
  for (int wrong : {INT_MIN, INT_MAX}) {  // what the first has left behind changes nothing
    wrong_length = wrong;
    run(c, a);
    for (int row = 0; row < rows; ++row) worst = max(worst, error_of(c, a, row, keys_before, values_before));
    if (!(worst <= MOST)) return worst;
  }
  return count(counts.begin(), counts.end(), 0u) == rows * heads ? worst : INFINITY;
}

int main(int count_of_words, char** words) {  // a part of a name: of those cases alone
  const Case cases[] = {
      // size, heads of the cache, queries for each, rotated, window, tokens, pasts, in place
      {"one, 96", 96, 2, 1, 96, -1, 1, {300}, true},
      {"one, 64, rows", 64, 2, 3, 64, -1, 1, {0, 9, 200}, true},
      {"one, 128, half rotated, apart", 128, 1, 2, 64, -1, 1, {63, 64}, false},
      {"one, 64, a long window", 64, 1, 1, 0, 150, 1, {2100}, true},
      {"one, 64, long", 64, 1, 1, 0, -1, 1, {2100}, true},
      {"several, 96, a first prompt", 96, 1, 2, 96, -1, 70, {0}, true},
      {"several, 64, behind a past, apart", 64, 1, 1, 64, -1, 37, {140}, false},
      {"several, 64, rows, a window", 64, 1, 3, 64, 7, 20, {0, 0}, true},
      {"several, 128, behind a past, a window", 128, 1, 1, 128, 50, 66, {130}, true},
  };
  bool failed = false;
  for (const Case& one : cases) {
    if (count_of_words > 1 && !strstr(one.name, words[1])) continue;
    const double error = check(one);
    printf("%s: %g\n", one.name, error);
    failed |= !(error <= MOST);
  }
  return failed;
}
