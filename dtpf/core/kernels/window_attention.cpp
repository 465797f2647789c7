// x + WindowAttention(LayerNorm(x)).

#include "windows.h"

// One window of one head; `query` points at its first pixel, and so does `out`.
static void attend(const float *query, const float *keys, const float *values, const float *bias,
                   long row_stride, long stride, float *out) {
  const float scale = LOG2_E / 4;  // of sqrt(16)
  float weights[SIDE * KEYS];
  for (long y = 0; y < SIDE; y++) {
    vec sums[SIDE], mixed[SIDE];
    for (long x = 0; x < SIDE; x += 2) {
      const float *pair[2] = {query + y * row_stride + x * stride,
                              query + y * row_stride + (x + 1) * stride};
      weigh(pair, scale, keys, bias + (y * SIDE + x) * KEYS, weights + x * KEYS, sums + x);
    }
    mix(weights, values, mixed);
#pragma GCC unroll 8
    for (long x = 0; x < SIDE; x++) store(out + y * row_stride + x * stride, mixed[x] / sums[x]);
  }
}

struct Buffers {
  float *normal, *pairs, *query, *mixed, *keys, *turned, *values, *change, *end;

  Buffers(float *scratch, long columns, long channels, long inner) {
    const long around = columns + 2 * MARGIN;
    normal = scratch;
    pairs = normal + round_up(around * channels, LANES);
    query = pairs + REACH * around * 2 * inner;
    mixed = query + SIDE * columns * inner;
    keys = mixed + SIDE * columns * inner;
    turned = keys + KEYS * DEPTH;
    values = turned + KEYS * DEPTH;
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
      const float *pairs = buffers.pairs + left * 2 * inner + head * DEPTH;
      gather(pairs, pair_stride, 2 * inner, buffers.keys);
      gather(pairs + inner, pair_stride, 2 * inner, buffers.values);
      turn(buffers.keys, buffers.turned);
      attend(buffers.query + at, buffers.turned, buffers.values,
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
  const long image = tile.image * tiles.height * tiles.width * layer.channels;
  for (long top = tile.top; top < tile.bottom; top += SIDE) {
    fill_pairs(layer, tiles, tile, top, x + image, buffers.normal, buffers.pairs);
    attend_row(layer, tiles, tile, top, x + image, result + image, buffers);
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
