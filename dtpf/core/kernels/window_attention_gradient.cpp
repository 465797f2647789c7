// Gradients of x + WindowAttention(LayerNorm(x)).
//
// A piece is some rows of one image, a whole number of windows. Keys near its ends also belong to
// windows of the pieces above and below; so each piece first writes the gradients of its queries and
// of all its keys and values, and a second pass adds up those of the same pixel.

#include "norm_gradient.h"
#include "windows.h"

struct WindowsGradient : Windows {
  const float *out_back, *back;  // packed the other way: from channels to inner, from 3 inner

  // Sums of a piece: weights of qkv (3 inner, padded channels) and of out (channels, inner), biases
  // (heads, 19 * 19), weight and bias of the norm (padded channels).
  long qkv_sums() const { return 3 * inner() * padded(channels); }
  long out_sums() const { return channels * inner(); }
  long sums() const {
    return qkv_sums() + out_sums() + round_up(heads * SPAN * SPAN, LANES) + 2 * padded(channels);
  }
};

struct GradientBuffers {
  float *normal, *pairs, *query, *given, *mixed, *bias, *keys, *turned_keys, *values,
      *turned_values, *key_grads, *value_grads, *row, *grad, *end;

  GradientBuffers(float *scratch, long columns, long channels, long heads) {
    const long around = columns + 2 * MARGIN, inner = heads * DEPTH;
    normal = scratch;
    pairs = normal + round_up(around * channels, LANES) + LANES;
    query = pairs + REACH * around * 2 * inner;
    given = query + SIDE * columns * inner;
    mixed = given + SIDE * columns * inner;
    bias = mixed + SIDE * columns * inner;
    keys = bias + heads * QUERIES * KEYS;
    turned_keys = keys + KEYS * DEPTH;
    values = turned_keys + KEYS * DEPTH;
    turned_values = values + KEYS * DEPTH;
    key_grads = turned_values + KEYS * DEPTH;
    value_grads = key_grads + KEYS * DEPTH;
    row = value_grads + KEYS * DEPTH;
    grad = row + columns * 3 * inner;
    end = grad + (columns + 4) * padded(channels);
  }
};

// Turns weights of two queries, not yet divided by their sums, into weights; writes the gradients
// of the scores and adds them to those of the biases.
INLINE void score_gradient(const float *const given[2], const float *turned_values,
                           const vec share[2], const vec along[2], float *weights, float *scores,
                           float *bias) {
  vec change[2][KEY_VECS];
  multiply(given, turned_values, change);
#pragma GCC unroll 2
  for (int q = 0; q < 2; q++)
#pragma GCC unroll 9
    for (long v = 0; v < KEY_VECS; v++) {
      const long at = q * KEYS + v * LANES;
      const vec weight = load(weights + at) * share[q];
      const vec score = weight * (change[q][v] - along[q]);
      store(weights + at, weight);
      store(scores + at, score);
      store(bias + at, load(bias + at) + score);
    }
}

// grads (144, 16) += sums over eight queries by their weights (8, 144).
INLINE void spread(const float *weights, const vec queries[SIDE], float *grads) {
  for (long k = 0; k < KEYS; k++) {
    vec total = load(grads + k * DEPTH);
#pragma GCC unroll 8
    for (long x = 0; x < SIDE; x++) total += all(weights[x * KEYS + k]) * queries[x];
    store(grads + k * DEPTH, total);
  }
}

// One window of one head. `query`, `given` and `mixed` point at its first pixel, rows of pixels of
// `inner` numbers each; `query_grads` likewise.
static void attend_gradient(const float *query, const float *given, const float *bias,
                            long row_stride, long stride, const GradientBuffers &buffers,
                            float *mixed, float *query_grads, float *bias_grads) {
  float weights[SIDE * KEYS], scores[SIDE * KEYS];
  for (long i = 0; i < KEYS * DEPTH; i += LANES) {
    store(buffers.key_grads + i, vec{});
    store(buffers.value_grads + i, vec{});
  }
  for (long y = 0; y < SIDE; y++) {
    vec sums[SIDE], found[SIDE], share[SIDE], along[SIDE], asked[SIDE], told[SIDE];
    const float *queries[SIDE], *changes[SIDE];
    for (long x = 0; x < SIDE; x++) {
      queries[x] = query + y * row_stride + x * stride;
      changes[x] = given + y * row_stride + x * stride;
    }
    const long first = y * SIDE * KEYS;
    for (long x = 0; x < SIDE; x += 2)
      weigh(queries + x, LOG2_E / 4, buffers.turned_keys, bias + first + x * KEYS,
            weights + x * KEYS, sums + x);
    mix(weights, buffers.values, found);
    for (long x = 0; x < SIDE; x++) {
      share[x] = all(1.0f) / sums[x];
      found[x] *= share[x];
      asked[x] = load(queries[x]) * all(0.25f);
      told[x] = load(changes[x]);
      along[x] = sum_of_lanes(found[x] * told[x]);
      store(mixed + y * row_stride + x * stride, found[x]);
    }
    for (long x = 0; x < SIDE; x += 2)
      score_gradient(changes + x, buffers.turned_values, share + x, along + x, weights + x * KEYS,
                     scores + x * KEYS, bias_grads + first + x * KEYS);
    mix(scores, buffers.keys, found);
    for (long x = 0; x < SIDE; x++)
      store(query_grads + y * row_stride + x * stride, found[x] * all(0.25f));
    spread(scores, asked, buffers.key_grads);
    spread(weights, told, buffers.value_grads);
  }
}

// Adds (144, 16) to a window's place in a map.
static void scatter(const float *from, long row_stride, long stride, float *to) {
  for (long y = 0; y < REACH; y++)
    for (long x = 0; x < REACH; x++, from += DEPTH) {
      float *here = to + y * row_stride + x * stride;
      store(here, load(here) + load(from));
    }
}

// What a piece leaves for the second pass: gradients of its queries (rows, width, inner), and of
// keys and values of its rows and two more on each side (rows + 4, width + 4, 2 inner).
struct Left {
  long rows, width, inner;

  long row() const { return (width + 2 * MARGIN) * 2 * inner; }
  long queries() const { return rows * width * inner; }
  long size() const { return queries() + (rows + 2 * MARGIN) * row(); }
};

static void row_of_windows(const WindowsGradient &layer, const Tiles &tiles, long top,
                           const float *x, const float *change, float *query_grads,
                           float *pair_grads, float *out_sums, float *bias_grads,
                           const GradientBuffers &buffers) {
  const long width = tiles.width, channels = layer.channels, inner = layer.inner();
  const long pair_row = (width + 2 * MARGIN) * 2 * inner;
  const float *given = change + top * width * channels;
  for (long row = 0; row < SIDE; row++) {
    normalise(x + (top + row) * width * channels, width, channels, layer.norm, buffers.normal);
    product(buffers.normal, channels, width, layer.query, channels, inner,
            buffers.query + row * width * inner, inner);
  }
  product(given, channels, SIDE * width, layer.out_back, channels, inner, buffers.given, inner);
  for (long head = 0; head < layer.heads; head++)
    for (long left = 0; left < width; left += SIDE) {
      const long at = left * inner + head * DEPTH, pair = left * 2 * inner + head * DEPTH;
      const long biases = head * QUERIES * KEYS;
      gather(buffers.pairs + pair, pair_row, 2 * inner, buffers.keys);
      gather(buffers.pairs + pair + inner, pair_row, 2 * inner, buffers.values);
      turn(buffers.keys, buffers.turned_keys);
      turn(buffers.values, buffers.turned_values);
      attend_gradient(buffers.query + at, buffers.given + at, layer.bias + biases, width * inner,
                      inner, buffers, buffers.mixed + at, query_grads + at, bias_grads + biases);
      scatter(buffers.key_grads, pair_row, 2 * inner, pair_grads + pair);
      scatter(buffers.value_grads, pair_row, 2 * inner, pair_grads + pair + inner);
    }
  correlate(given, channels, channels, buffers.mixed, inner, inner, SIDE * width, out_sums, inner);
}

// Adds gradients (heads, 64, 144) up by offset.
static void gather_bias(const float *grads, long heads, float *table) {
  for (long head = 0; head < heads; head++, table += SPAN * SPAN)
    for (long qy = 0; qy < SIDE; qy++)
      for (long qx = 0; qx < SIDE; qx++)
        for (long ky = 0; ky < REACH; ky++) {
          float *to = table + (ky - qy + SIDE - 1) * SPAN + SIDE - 1 - qx;
          for (long kx = 0; kx < REACH; kx++) to[kx] += *grads++;
        }
}

static void first_pass(const WindowsGradient &layer, const Tiles &tiles, const Tile &tile,
                       const float *x, const float *change, float *left, float *sums,
                       float *scratch) {
  const Left sizes{tiles.rows, tiles.width, layer.inner()};
  const GradientBuffers buffers(scratch, tiles.width, layer.channels, layer.heads);
  float *out_sums = sums + layer.qkv_sums(), *table = out_sums + layer.out_sums();
  const long image = tile.image * tiles.height * tiles.width * layer.channels;
  for (long i = 0; i < layer.sums(); i++) sums[i] = 0.0f;
  for (long i = sizes.queries(); i < sizes.size(); i++) left[i] = 0.0f;
  for (long i = 0; i < layer.heads * QUERIES * KEYS; i += LANES) store(buffers.bias + i, vec{});
  for (long top = tile.top; top < tile.bottom; top += SIDE) {
    fill_pairs(layer, tiles, tile, top, x + image, buffers.normal, buffers.pairs);
    row_of_windows(layer, tiles, top, x + image, change + image,
                   left + (top - tile.top) * tiles.width * layer.inner(),
                   left + sizes.queries() + (top - tile.top) * sizes.row(), out_sums, buffers.bias,
                   buffers);
  }
  gather_bias(buffers.bias, layer.heads, table);
}

// Adds a row of key and value gradients that a piece has, which begins at `top`, if it has it.
static void add_pairs(const Left &sizes, const float *left, long top, long row, float *out) {
  const long index = row - (top - MARGIN);
  if (index < 0 || index >= sizes.rows + 2 * MARGIN) return;
  const float *from =
      left + sizes.queries() + index * sizes.row() + MARGIN * 2 * sizes.inner;
  for (long x = 0; x < sizes.width; x++)
    for (long i = 0; i < 2 * sizes.inner; i += LANES) {
      float *to = out + x * 3 * sizes.inner + sizes.inner + i;
      store(to, load(to) + load(from + x * 2 * sizes.inner + i));
    }
}

static void second_pass(const WindowsGradient &layer, const Tiles &tiles, long piece,
                        const float *x, const float *change, const float *left, float *result,
                        float *sums, float *scratch) {
  const Tile tile(tiles, piece);
  const long width = tiles.width, channels = layer.channels, inner = layer.inner();
  const Left sizes{tiles.rows, width, inner};
  const GradientBuffers buffers(scratch, width, channels, layer.heads);
  float *norm_sums = sums + layer.sums() - 2 * padded(channels);
  for (long row = tile.top; row < tile.bottom; row++) {
    const float *queries = left + piece * sizes.size() + (row - tile.top) * width * inner;
    for (long p = 0; p < width; p++)
      for (long i = 0; i < 3 * inner; i += LANES)
        store(buffers.row + p * 3 * inner + i, i < inner ? load(queries + p * inner + i) : vec{});
    for (long other = piece - 1; other <= piece + 1; other++) {
      const long top = tile.top + (other - piece) * tiles.rows;
      if (top >= 0 && top < tiles.height)
        add_pairs(sizes, left + other * sizes.size(), top, row, buffers.row);
    }
    const long at = ((tile.image * tiles.height + row) * width) * channels;
    normalise(x + at, width, channels, layer.norm, buffers.normal);
    correlate(buffers.row, 3 * inner, 3 * inner, buffers.normal, channels, channels, width, sums,
              padded(channels));
    product(buffers.row, 3 * inner, width, layer.back, 3 * inner, channels, buffers.grad,
            padded(channels));
    normalise_gradient(x + at, buffers.grad, width, channels, layer.norm, change + at, result + at,
                       norm_sums, norm_sums + padded(channels),
                       buffers.grad + width * padded(channels));
  }
}

extern "C" long dtpf_windows_gradient_scratch(long columns, long channels, long heads) {
  const GradientBuffers buffers(nullptr, columns, channels, heads);
  return buffers.end - buffers.normal;
}

extern "C" long dtpf_windows_gradient_packed(long channels, long heads) {
  const long inner = heads * DEPTH;
  return 4 * channels * inner + 3 * inner * padded(channels) + heads * QUERIES * KEYS;
}

extern "C" long dtpf_windows_gradient_sums(long channels, long heads) {
  const WindowsGradient layer{{nullptr, nullptr, nullptr, nullptr, channels, heads, {}}, nullptr,
                              nullptr};
  return layer.sums();
}

extern "C" long dtpf_windows_gradient_left(long rows, long width, long heads) {
  return Left{rows, width, heads * DEPTH}.size();
}

// `tiles` are as wide as the map. `change` is the gradient of the result; `left` holds
// dtpf_windows_gradient_left numbers for each tile.
extern "C" void dtpf_windows_gradient(const Threads *threads, const Tiles *tiles, const float *x,
                                      const float *change, float *left, float *result, float *sums,
                                      long channels, long heads, const Norm *norm,
                                      const float *qkv, const float *out, const float *table,
                                      float *packed) {
  const long inner = heads * DEPTH;
  float *pair = packed + channels * inner, *out_back = pair + 2 * channels * inner;
  float *back = out_back + channels * inner, *bias = back + 3 * inner * padded(channels);
  pack(qkv, channels, inner, packed);
  pack(qkv + inner * channels, channels, 2 * inner, pair);
  pack_transposed(out, channels, inner, out_back);
  pack_transposed(qkv, 3 * inner, channels, back);
  spread_bias(table, heads, bias);
  const WindowsGradient layer{
      {packed, pair, nullptr, bias, channels, heads, *norm}, out_back, back};
  const long left_size = Left{tiles->rows, tiles->width, inner}.size();
  in_parallel(*threads, tiles->count(), [&](long piece, float *scratch) {
    first_pass(layer, *tiles, Tile(*tiles, piece), x, change, left + piece * left_size,
               sums + piece * layer.sums(), scratch);
  });
  in_parallel(*threads, tiles->count(), [&](long piece, float *scratch) {
    second_pass(layer, *tiles, piece, x, change, left, result, sums + piece * layer.sums(),
                scratch);
  });
}
