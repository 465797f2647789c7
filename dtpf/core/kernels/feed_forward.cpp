// x + FeedForward(LayerNorm(x)): the gated depth-wise feed-forward layer of Restormer.
//
// A tile goes row by row: three expanded rows, panel by panel, stay in the cache; what follows the
// convolution of a row is done before the next one is expanded.

#include "jobs.h"
#include "matrix.h"

struct FeedForward {
  const float *expand, *mix, *reduce;  // packed
  long channels, hidden;
  Norm norm;
};

INLINE long ring_size(long columns, long hidden) { return (columns + 2) * 2 * hidden; }

// Expands one row of a tile with the pixel left and right of it; zeros outside the map.
static void expand_row(const FeedForward &layer, const Tiles &tiles, const Tile &tile, long row,
                       const float *map, float *normal, float *out) {
  const long count = tile.columns() + 2, panels = 2 * layer.hidden / PANEL;
  const long left = most(tile.left - 1, 0), right = least(tile.right + 1, tiles.width);
  const long skipped = left - (tile.left - 1);
  if (row < 0 || row >= tiles.height) {
    for (long i = 0; i < count * 2 * layer.hidden; i += LANES) store(out + i, vec{});
    return;
  }
  normalise(map + (row * tiles.width + left) * layer.channels, right - left, layer.channels,
            layer.norm, normal);
  product(normal, layer.channels, right - left, layer.expand, layer.channels, 2 * layer.hidden,
          out + skipped * PANEL, PANEL, count * PANEL);
  for (long p = 0; p < panels; p++) {
    float *panel = out + p * count * PANEL;
    for (long i = 0; i < PANEL; i += LANES) {
      if (skipped) store(panel + i, vec{});
      if (right < tile.right + 1) store(panel + (count - 1) * PANEL + i, vec{});
    }
  }
}

template <int PIXELS>
INLINE void gate(const float *const gates[3], const float *const values[3], long x,
                 const vec kernel[18], float *out, long stride) {
  const float *g[3] = {gates[0] + x * PANEL, gates[1] + x * PANEL, gates[2] + x * PANEL};
  const float *v[3] = {values[0] + x * PANEL, values[1] + x * PANEL, values[2] + x * PANEL};
  vec weight[PIXELS], value[PIXELS];
  convolve<PIXELS>(g, PANEL, kernel, weight);
  convolve<PIXELS>(v, PANEL, kernel + 9, value);
#pragma GCC unroll 4
  for (int p = 0; p < PIXELS; p++) store(out + (x + p) * stride, gelu(weight[p]) * value[p]);
}

// Convolves the middle one of three expanded rows and weighs one half by the GELU of the other.
static void gate_row(const FeedForward &layer, const float *const ring[3], long columns,
                     float *out) {
  const long step = (columns + 2) * PANEL, width = 2 * layer.hidden;
  for (long c = 0; c < layer.hidden; c += LANES) {
    const long other = layer.hidden + c;
    vec kernel[18];
    const float *gates[3], *values[3];
    for (int k = 0; k < 9; k++) {
      kernel[k] = load(layer.mix + k * width + c);
      kernel[9 + k] = load(layer.mix + k * width + other);
    }
    for (int r = 0; r < 3; r++) {
      gates[r] = ring[r] + c / PANEL * step + c % PANEL;
      values[r] = ring[r] + other / PANEL * step + other % PANEL;
    }
    long x = 0;
    for (; x + 4 <= columns; x += 4) gate<4>(gates, values, x, kernel, out + c, layer.hidden);
    for (; x < columns; x++) gate<1>(gates, values, x, kernel, out + c, layer.hidden);
  }
}

static void feed_tile(const FeedForward &layer, const Tiles &tiles, const Tile &tile,
                      const float *x, float *result, float *scratch) {
  const long columns = tile.columns(), channels = layer.channels;
  const long size = ring_size(columns, layer.hidden);
  float *normal = scratch, *ring = normal + round_up((columns + 2) * channels, LANES);
  float *gated = ring + 3 * size, *change = gated + columns * layer.hidden;
  const long image = tile.image * tiles.height * tiles.width * channels;
  for (long row = tile.top - 1; row <= tile.bottom; row++) {
    expand_row(layer, tiles, tile, row, x + image, normal, ring + (row + 3) % 3 * size);
    const long done = row - 1;
    if (done < tile.top) continue;
    const float *rows[3];
    for (int r = 0; r < 3; r++) rows[r] = ring + (done + r + 2) % 3 * size;
    gate_row(layer, rows, columns, gated);
    product(gated, layer.hidden, columns, layer.reduce, layer.hidden, channels, change,
            padded(channels));
    const long at = image + (done * tiles.width + tile.left) * channels;
    add(x + at, change, columns, channels, result + at);
  }
}

extern "C" long dtpf_feed_forward_scratch(long columns, long channels, long hidden) {
  return round_up((columns + 2) * channels, LANES) + 3 * ring_size(columns, hidden) +
         columns * hidden + columns * padded(channels);
}

extern "C" long dtpf_feed_forward_packed(long channels, long hidden) {
  return channels * 2 * hidden + 9 * 2 * hidden + hidden * padded(channels);
}

// `packed` holds dtpf_feed_forward_packed numbers, each thread's scratch dtpf_feed_forward_scratch.
extern "C" void dtpf_feed_forward(const Threads *threads, const Tiles *tiles, const float *x,
                                  float *result, long channels, long hidden, const Norm *norm,
                                  const float *expand, const float *mix, const float *reduce,
                                  float *packed) {
  float *packed_mix = packed + channels * 2 * hidden;
  float *packed_reduce = packed_mix + 9 * 2 * hidden;
  pack(expand, channels, 2 * hidden, packed);
  pack_kernels(mix, 2 * hidden, packed_mix);
  pack(reduce, hidden, channels, packed_reduce);
  const FeedForward layer{packed, packed_mix, packed_reduce, channels, hidden, *norm};
  in_parallel(*threads, tiles->count(), [&](long piece, float *scratch) {
    feed_tile(layer, *tiles, Tile(*tiles, piece), x, result, scratch);
  });
}
