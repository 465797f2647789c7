// Layer norm, 1x1 convolution to more channels, 3x3 convolution of each: how two layers begin.
#pragma once

#include "jobs.h"
#include "matrix.h"

struct Projection {
  const float *expand, *mix;  // packed
  long channels, wide;        // wide: outputs, padded
  Norm norm;
};

// The width of queries, keys and values side by side: keys written a whole vector at a time, behind
// the queries, must not reach the next pixel.
INLINE long look_width(long channels) {
  return padded(most(3 * channels, channels + padded(channels)));
}

// Expands one row of a tile and `reach` pixels on both sides; zeros outside the map.
static void project_row(const Projection &layer, const Tiles &tiles, const Tile &tile, long row,
                        long reach, const float *map, float *normal, float *out) {
  const long first = tile.left - reach, stop = tile.right + reach;
  const long left = most(first, 0), right = least(stop, tiles.width);
  const bool inside = row >= 0 && row < tiles.height;
  if (inside) {
    normalise(map + (row * tiles.width + left) * layer.channels, right - left, layer.channels,
              layer.norm, normal);
    product(normal, layer.channels, right - left, layer.expand, layer.channels, layer.wide,
            out + (left - first) * layer.wide, layer.wide);
  }
  for (long x = first; x < stop; x++)
    if (!inside || x < left || x >= right)
      for (long i = 0; i < layer.wide; i += LANES) store(out + (x - first) * layer.wide + i, vec{});
}

// Convolves the first `channels` of the middle one of three rows, which begin one pixel before; with
// the kernels turned round, that takes gradients of the result to those of the rows.
template <bool TURNED = false>
static void mix_row(const Projection &layer, const float *const ring[3], long columns,
                    long channels, float *out) {
  for (long c = 0; c < channels; c += LANES) {
    vec kernel[9], mixed[8];
    for (int k = 0; k < 9; k++) kernel[k] = load(layer.mix + (TURNED ? 8 - k : k) * layer.wide + c);
    long x = 0;
    for (; x + 8 <= columns; x += 8) {
      const long at = x * layer.wide + c;
      const float *rows[3] = {ring[0] + at, ring[1] + at, ring[2] + at};
      convolve<8>(rows, layer.wide, kernel, mixed);
      for (int p = 0; p < 8; p++) store(out + at + p * layer.wide, mixed[p]);
    }
    for (; x < columns; x++) {
      const long at = x * layer.wide + c;
      const float *rows[3] = {ring[0] + at, ring[1] + at, ring[2] + at};
      convolve<1>(rows, layer.wide, kernel, mixed);
      store(out + at, mixed[0]);
    }
  }
}
