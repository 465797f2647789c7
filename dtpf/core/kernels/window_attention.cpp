// x + WindowAttention(LayerNorm(x)): windows of 8 x 8 queries, 12 x 12 keys, heads of 16 channels.

#include "jobs.h"
#include "matrix.h"

constexpr long SIDE = 8, MARGIN = 2, REACH = SIDE + 2 * MARGIN;
constexpr long QUERIES = SIDE * SIDE, KEYS = REACH * REACH, DEPTH = LANES;
constexpr long KEY_VECS = KEYS / LANES;
constexpr float LOG2_E = 1.44269504f;

struct Windows {
  const float *query, *pair, *out, *bias;  // packed; the bias of every head, query and key
  long channels, heads;
  Norm norm;

  long inner() const { return heads * DEPTH; }
};

// Writes keys and values of a map's row between two columns, zeros outside the map.
static void pair_row(const Windows &layer, const Tiles &tiles, const Tile &tile, long row,
                     const float *map, float *normal, float *out) {
  const long width = 2 * layer.inner(), first = tile.left - MARGIN, stop = tile.right + MARGIN;
  const long left = most(first, 0), right = least(stop, tiles.width);
  const bool inside = row >= 0 && row < tiles.height;
  if (inside) {
    normalise(map + (row * tiles.width + left) * layer.channels, right - left, layer.channels,
              layer.norm, normal);
    product(normal, layer.channels, right - left, layer.pair, layer.channels, width,
            out + (left - first) * width, width);
  }
  for (long x = first; x < stop; x++)
    if (!inside || x < left || x >= right)
      for (long i = 0; i < width; i += LANES) store(out + (x - first) * width + i, vec{});
}

// Copies the keys, transposed to (16, 144), and the values (144, 16) of one window and head.
static void gather(const float *pairs, long row_stride, long stride, long inner, float *keys,
                   float *values) {
  vec rows[KEYS];
  for (long y = 0; y < REACH; y++)
    for (long x = 0; x < REACH; x++) {
      const float *from = pairs + y * row_stride + x * stride;
      rows[y * REACH + x] = load(from);
      store(values + (y * REACH + x) * DEPTH, load(from + inner));
    }
  for (long v = 0; v < KEY_VECS; v++) {
    vec part[16];
    for (int i = 0; i < 16; i++) part[i] = rows[v * LANES + i];
    transpose(part);
    for (int i = 0; i < 16; i++) store(keys + i * KEYS + v * LANES, part[i]);
  }
}

// Weights (2, 144) of two queries, not yet divided by their sums, which are returned.
INLINE void weigh(const float *const query[2], float scale, const float *keys, const float *bias,
                  float *weights, vec sums[2]) {
  vec score[2][KEY_VECS] = {};
#pragma GCC unroll 2
  for (long d = 0; d < DEPTH; d++)
#pragma GCC unroll 2
    for (int q = 0; q < 2; q++) {
      const vec number = all(query[q][d]);
#pragma GCC unroll 9
      for (long v = 0; v < KEY_VECS; v++) score[q][v] += number * load(keys + d * KEYS + v * LANES);
    }
#pragma GCC unroll 2
  for (int q = 0; q < 2; q++) {
    vec largest = all(-3e38f), sum{};
#pragma GCC unroll 9
    for (long v = 0; v < KEY_VECS; v++) {
      score[q][v] = score[q][v] * all(scale) + load(bias + q * KEYS + v * LANES);
      largest = larger(largest, score[q][v]);
    }
    largest = largest_lane(largest);
#pragma GCC unroll 9
    for (long v = 0; v < KEY_VECS; v++) {
      const vec weight = power_of_two(score[q][v] - largest);
      sum += weight;
      store(weights + q * KEYS + v * LANES, weight);
    }
    sums[q] = sum_of_lanes(sum);
  }
}

// One window of one head; `query` points at its first pixel, and so does `out`.
static void attend(const float *query, const float *keys, const float *values, const float *bias,
                   long row_stride, long stride, float *out) {
  const float scale = LOG2_E / 4;  // of sqrt(16)
  float weights[SIDE * KEYS];
  for (long y = 0; y < SIDE; y++) {
    vec sums[SIDE], mixed[SIDE] = {};
    for (long x = 0; x < SIDE; x += 2) {
      const float *pair[2] = {query + y * row_stride + x * stride,
                              query + y * row_stride + (x + 1) * stride};
      weigh(pair, scale, keys, bias + (y * SIDE + x) * KEYS, weights + x * KEYS, sums + x);
    }
    for (long k = 0; k < KEYS; k++) {
      const vec value = load(values + k * DEPTH);
#pragma GCC unroll 8
      for (long x = 0; x < SIDE; x++) mixed[x] += all(weights[x * KEYS + k]) * value;
    }
#pragma GCC unroll 8
    for (long x = 0; x < SIDE; x++) store(out + y * row_stride + x * stride, mixed[x] / sums[x]);
  }
}

struct Buffers {
  float *normal, *pairs, *query, *mixed, *keys, *values, *change, *end;

  Buffers(float *scratch, long columns, long channels, long inner) {
    const long around = columns + 2 * MARGIN;
    normal = scratch;
    pairs = normal + round_up(around * channels, LANES);
    query = pairs + REACH * around * 2 * inner;
    mixed = query + SIDE * columns * inner;
    keys = mixed + SIDE * columns * inner;
    values = keys + KEYS * DEPTH;
    change = values + KEYS * DEPTH;
    end = change + columns * padded(channels);
  }
};

// One row of windows of a tile whose keys and values are known.
static void attend_row(const Windows &layer, const Tiles &tiles, const Tile &tile, long top,
                       const float *x, float *result, const Buffers &buffers) {
  const long columns = tile.columns(), channels = layer.channels, inner = layer.inner();
  const long pair_stride = (columns + 2 * MARGIN) * 2 * inner;
  for (long row = 0; row < SIDE; row++) {
    const float *from = x + ((top + row) * tiles.width + tile.left) * channels;
    normalise(from, columns, channels, layer.norm, buffers.normal);
    product(buffers.normal, channels, columns, layer.query, channels, inner,
            buffers.query + row * columns * inner, inner);
  }
  for (long head = 0; head < layer.heads; head++)
    for (long left = 0; left < columns; left += SIDE) {
      const long at = left * inner + head * DEPTH;
      gather(buffers.pairs + left * 2 * inner + head * DEPTH, pair_stride, 2 * inner, inner,
             buffers.keys, buffers.values);
      attend(buffers.query + at, buffers.keys, buffers.values,
             layer.bias + head * QUERIES * KEYS, columns * inner, inner, buffers.mixed + at);
    }
  for (long row = 0; row < SIDE; row++) {
    const long at = ((top + row) * tiles.width + tile.left) * channels;
    product(buffers.mixed + row * columns * inner, inner, columns, layer.out, inner, channels,
            buffers.change, padded(channels));
    add(x + at, buffers.change, columns, channels, result + at);
  }
}

static void window_tile(const Windows &layer, const Tiles &tiles, const Tile &tile, const float *x,
                        float *result, float *scratch) {
  const Buffers buffers(scratch, tile.columns(), layer.channels, layer.inner());
  const long row_size = (tile.columns() + 2 * MARGIN) * 2 * layer.inner();
  const long image = tile.image * tiles.height * tiles.width * layer.channels;
  for (long top = tile.top; top < tile.bottom; top += SIDE) {
    long known = 0;
    if (top > tile.top) {
      known = 2 * MARGIN;  // the last rows of the windows above
      for (long i = 0; i < known * row_size; i += LANES)
        store(buffers.pairs + i, load(buffers.pairs + SIDE * row_size + i));
    }
    for (long row = known; row < REACH; row++)
      pair_row(layer, tiles, tile, top - MARGIN + row, x + image, buffers.normal,
               buffers.pairs + row * row_size);
    attend_row(layer, tiles, tile, top, x + image, result + image, buffers);
  }
}

// Spreads the table (heads, 19, 19) of biases by offset to (heads, 64, 144), times log2(e).
static void spread_bias(const float *table, long heads, float *out) {
  constexpr long SPAN = 2 * (SIDE + MARGIN) - 1;
  for (long head = 0; head < heads; head++, table += SPAN * SPAN)
    for (long qy = 0; qy < SIDE; qy++)
      for (long qx = 0; qx < SIDE; qx++)
        for (long ky = 0; ky < REACH; ky++) {
          const float *from = table + (ky - qy + SIDE - 1) * SPAN + SIDE - 1 - qx;
          for (long kx = 0; kx < REACH; kx++) *out++ = from[kx] * LOG2_E;
        }
}

extern "C" long dtpf_windows_scratch(long columns, long channels, long heads) {
  const Buffers buffers(nullptr, columns, channels, heads * DEPTH);
  return buffers.end - buffers.normal;
}

extern "C" long dtpf_windows_packed(long channels, long heads) {
  const long inner = heads * DEPTH;
  return 3 * channels * inner + inner * padded(channels) + heads * QUERIES * KEYS;
}

// `tiles` divide by 8. Weights: qkv (3 * inner, channels), out (channels, inner), bias table
// (heads, 19 * 19).
extern "C" void dtpf_windows(const Threads *threads, const Tiles *tiles, const float *x,
                             float *result, long channels, long heads, const Norm *norm,
                             const float *qkv, const float *out, const float *table,
                             float *packed) {
  const long inner = heads * DEPTH;
  float *pair = packed + channels * inner, *reduce = pair + 2 * channels * inner;
  float *bias = reduce + inner * padded(channels);
  pack(qkv, channels, inner, packed);
  pack(qkv + inner * channels, channels, 2 * inner, pair);
  pack(out, inner, channels, reduce);
  spread_bias(table, heads, bias);
  const Windows layer{packed, pair, reduce, bias, channels, heads, *norm};
  in_parallel(*threads, tiles->count(), [&](long piece, float *scratch) {
    window_tile(layer, *tiles, Tile(*tiles, piece), x, result, scratch);
  });
}
