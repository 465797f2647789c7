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

// Writes zeros to the pixels of a row before `first` and from `stop` on.
static void clear_outside(float *row, long count, long first, long stop, long wide) {
  for (long p = 0; p < count; p++)
    if (p < first || p >= stop)
      for (long i = 0; i < wide; i += LANES) store(row + p * wide + i, vec{});
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
    const long first = tile.left > 0 ? 0 : 1, stop = columns + 1 + (tile.right < tiles.width);
    clear_outside(out, columns + 2, first, there ? stop : first, wide);
    if (there) head(middle, around, first, stop, out);
    if (middle >= tile.top && middle < tile.bottom)
      kernel_gradient(out + wide, inside, columns, wide, kernel_sums);
    if (done < tile.top) continue;
    const float *changes[3];
    for (int r = 0; r < 3; r++) changes[r] = mixed + (done - 1 + r + 6) % 3 * mixed_size;
    mix_row<true>(layer, changes, columns, wide, change);
    const long at = image + (done * tiles.width + tile.left) * channels;
    normalise(x + at, columns, channels, layer.norm, normal);
    correlate(change, wide, wide, normal, channels, channels, columns, sums, padded(channels));
    product(change, wide, columns, layer.back, wide, channels, grad, padded(channels));
    normalise_gradient(x + at, grad, columns, channels, layer.norm, more ? more + at : nullptr,
                       result + at, norm_sums, norm_sums + padded(channels),
                       grad + columns * padded(channels));
  }
}
