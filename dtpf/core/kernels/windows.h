// Windows of 8 x 8 queries and 12 x 12 keys, heads of 16 channels: what both directions share.
#pragma once

#include "jobs.h"
#include "matrix.h"

constexpr long SIDE = 8, MARGIN = 2, REACH = SIDE + 2 * MARGIN;
constexpr long QUERIES = SIDE * SIDE, KEYS = REACH * REACH, DEPTH = LANES;
constexpr long KEY_VECS = KEYS / LANES;
constexpr long SPAN = 2 * (SIDE + MARGIN) - 1;  // offsets of keys to queries along one axis
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

// Computes the keys and values of a tile's row of windows from `top` on; those of the row before
// leave four rows to it.
static void fill_pairs(const Windows &layer, const Tiles &tiles, const Tile &tile, long top,
                       const float *map, float *normal, float *pairs) {
  const long row_size = (tile.columns() + 2 * MARGIN) * 2 * layer.inner();
  const long known = top > tile.top ? 2 * MARGIN : 0;
  for (long i = 0; i < known * row_size; i += LANES)
    store(pairs + i, load(pairs + SIDE * row_size + i));
  for (long row = known; row < REACH; row++)
    pair_row(layer, tiles, tile, top - MARGIN + row, map, normal, pairs + row * row_size);
}

// Copies 16 channels of a window's keys to (144, 16).
static void gather(const float *from, long row_stride, long stride, float *to) {
  for (long y = 0; y < REACH; y++)
    for (long x = 0; x < REACH; x++, to += DEPTH)
      store(to, load(from + y * row_stride + x * stride));
}

// Transposes (144, 16) to (16, 144).
static void turn(const float *from, float *to) {
  for (long v = 0; v < KEY_VECS; v++) {
    vec part[16];
    for (int i = 0; i < 16; i++) part[i] = load(from + (v * LANES + i) * DEPTH);
    transpose(part);
    for (int i = 0; i < 16; i++) store(to + i * KEYS + v * LANES, part[i]);
  }
}

// Products (2, 144) of two queries with turned keys.
INLINE void multiply(const float *const query[2], const float *turned,
                     vec score[2][KEY_VECS]) {
#pragma GCC unroll 2
  for (int q = 0; q < 2; q++)
#pragma GCC unroll 9
    for (long v = 0; v < KEY_VECS; v++) score[q][v] = vec{};
#pragma GCC unroll 2
  for (long d = 0; d < DEPTH; d++)
#pragma GCC unroll 2
    for (int q = 0; q < 2; q++) {
      const vec number = all(query[q][d]);
#pragma GCC unroll 9
      for (long v = 0; v < KEY_VECS; v++)
        score[q][v] += number * load(turned + d * KEYS + v * LANES);
    }
}

// Weights (2, 144) of two queries, not yet divided by their sums, which are returned.
INLINE void weigh(const float *const query[2], float scale, const float *keys, const float *bias,
                  float *weights, vec sums[2]) {
  vec score[2][KEY_VECS];
  multiply(query, keys, score);
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

// Sums of the values of 144 keys by the weights (8, 144) of eight queries.
INLINE void mix(const float *weights, const float *values, vec mixed[SIDE]) {
#pragma GCC unroll 8
  for (long x = 0; x < SIDE; x++) mixed[x] = vec{};
  for (long k = 0; k < KEYS; k++) {
    const vec value = load(values + k * DEPTH);
#pragma GCC unroll 8
    for (long x = 0; x < SIDE; x++) mixed[x] += all(weights[x * KEYS + k]) * value;
  }
}

// Spreads the table (heads, 19, 19) of biases by offset to (heads, 64, 144), times log2(e).
static void spread_bias(const float *table, long heads, float *out) {
  for (long head = 0; head < heads; head++, table += SPAN * SPAN)
    for (long qy = 0; qy < SIDE; qy++)
      for (long qx = 0; qx < SIDE; qx++)
        for (long ky = 0; ky < REACH; ky++) {
          const float *from = table + (ky - qy + SIDE - 1) * SPAN + SIDE - 1 - qx;
          for (long kx = 0; kx < REACH; kx++) *out++ = from[kx] * LOG2_E;
        }
}

