// Gradients of a projection from those of its convolved channels.
//
// A tile goes row by row, as forward: expanded rows two pixels around it, gradients of convolved
// rows one pixel around it, gradients of expanded rows within. Sums for the weights are kept for
// each tile, so that adding them up depends on no thread.
#pragma once

#include "norm_gradient.h"
#include "projection.h"

struct ProjectionGradient : Projection {
  const float *back;  // packed the other way, from wide to channels

  // Sums of a tile: the weights of `expand` (wide, padded channels), the kernels (9, wide), weight
  // and bias of the norm (padded channels).
  long sums() const { return wide * padded(channels) + 9 * wide + 2 * padded(channels); }
};

// sums (9, wide) += gradients of convolved pixels times the expanded ones around them.
static void kernel_gradient(const float *grad, const float *const ring[3], long columns, long wide,
                            float *sums) {
  for (long c = 0; c < wide; c += LANES) {
    vec total[9];
    for (int k = 0; k < 9; k++) total[k] = load(sums + k * wide + c);
    for (long x = 0; x < columns; x++) {
      const vec change = load(grad + x * wide + c);
#pragma GCC unroll 9
      for (int k = 0; k < 9; k++)
        total[k] += change * load(ring[k / 3] + (x + k % 3) * wide + c);
    }
    for (int k = 0; k < 9; k++) store(sums + k * wide + c, total[k]);
  }
}

static long gradient_scratch(long columns, long channels, long wide) {
  const long around = columns + 4;
  return round_up(around * channels, LANES) + LANES + 3 * around * wide +
         3 * (columns + 2) * wide + columns * wide + (columns + 4) * padded(channels);
}

// `head(row, expanded rows, columns inside the map, out)` writes the gradients of one convolved row
// of the tile and the pixels beside it; the rows begin one pixel before those.
template <typename Head>
static void gradient_tile(const ProjectionGradient &layer, const Tiles &tiles, const Tile &tile,
                          const float *x, const float *more, float *result, float *sums,
                          float *scratch, const Head &head) {
  const long columns = tile.columns(), channels = layer.channels, wide = layer.wide;
  const long expanded_size = (columns + 4) * wide, mixed_size = (columns + 2) * wide;
  float *normal = scratch;
  float *expanded = normal + round_up((columns + 4) * channels, LANES) + LANES;
  float *mixed = expanded + 3 * expanded_size, *change = mixed + 3 * mixed_size;
  float *grad = change + columns * wide;
  float *kernel_sums = sums + wide * padded(channels), *norm_sums = kernel_sums + 9 * wide;
  const long image = tile.image * tiles.height * tiles.width * channels;
  for (long i = 0; i < layer.sums(); i++) sums[i] = 0.0f;
  for (long row = tile.top - 2; row <= tile.bottom + 1; row++) {
    project_row(layer, tiles, tile, row, 2, x + image, normal,
                expanded + (row + 6) % 3 * expanded_size);
    const long middle = row - 1, done = row - 2;
    if (middle < tile.top - 1) continue;
    float *out = mixed + (middle + 6) % 3 * mixed_size;
    const float *around[3], *inside[3];
    for (int r = 0; r < 3; r++) {
      around[r] = expanded + (middle - 1 + r + 6) % 3 * expanded_size;
      inside[r] = around[r] + wide;
    }
    const bool there = middle >= 0 && middle < tiles.height;
    const long first = there && tile.left > 0 ? 0 : 1;
    const long stop = columns + 1 + (tile.right < tiles.width);
    for (long p = 0; p < columns + 2; p++)
      if (!there || p < first || p >= stop)
        for (long i = 0; i < wide; i += LANES) store(out + p * wide + i, vec{});
    if (there) head(middle, around, first, stop, out);
    if (middle >= tile.top && middle < tile.bottom)
      kernel_gradient(out + wide, inside, columns, wide, kernel_sums);
    if (done < tile.top) continue;
    for (long c = 0; c < wide; c += LANES) {
      vec kernel[9], found[4];
      for (int k = 0; k < 9; k++) kernel[k] = load(layer.mix + (8 - k) * wide + c);
      long p = 0;
      const float *rows[3];
      for (; p + 4 <= columns; p += 4) {
        for (int r = 0; r < 3; r++)
          rows[r] = mixed + (done - 1 + r + 6) % 3 * mixed_size + p * wide + c;
        convolve<4>(rows, wide, kernel, found);
        for (int i = 0; i < 4; i++) store(change + (p + i) * wide + c, found[i]);
      }
      for (; p < columns; p++) {
        for (int r = 0; r < 3; r++)
          rows[r] = mixed + (done - 1 + r + 6) % 3 * mixed_size + p * wide + c;
        convolve<1>(rows, wide, kernel, found);
        store(change + p * wide + c, found[0]);
      }
    }
    const long at = image + (done * tiles.width + tile.left) * channels;
    normalise(x + at, columns, channels, layer.norm, normal);
    correlate(change, wide, wide, normal, channels, channels, columns, sums, padded(channels));
    product(change, wide, columns, layer.back, wide, channels, grad, padded(channels));
    normalise_gradient(x + at, grad, columns, channels, layer.norm, more ? more + at : nullptr,
                       result + at, norm_sums, norm_sums + padded(channels),
                       grad + columns * padded(channels));
  }
}
