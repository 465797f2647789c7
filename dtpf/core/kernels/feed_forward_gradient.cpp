// Gradients of x + FeedForward(LayerNorm(x)).

#include "projection_gradient.h"

struct FeedForwardGradient : ProjectionGradient {
  const float *reduce;  // packed the other way, from channels to hidden
  long hidden;
};

// Gradients of both halves of some convolved pixels, and what the gate let through.
template <int PIXELS>
INLINE void ungate(const float *const rows[3], long wide, long hidden, const vec kernel[18],
                   const float *change, float *out, float *gated) {
  const float *others[3] = {rows[0] + hidden, rows[1] + hidden, rows[2] + hidden};
  vec weight[PIXELS], value[PIXELS];
  convolve<PIXELS>(rows, wide, kernel, weight);
  convolve<PIXELS>(others, wide, kernel + 9, value);
#pragma GCC unroll 4
  for (int p = 0; p < PIXELS; p++) {
    const vec given = load(change + p * hidden), distribution = normal_distribution(weight[p]);
    const vec passed = weight[p] * distribution;
    store(out + p * wide, given * value[p] * gelu_slope(weight[p], distribution));
    store(out + p * wide + hidden, given * passed);
    store(gated + p * hidden, passed * value[p]);
  }
}

static void ungate_row(const FeedForwardGradient &layer, const float *const rows[3], long first,
                       long stop, const float *change, float *out, float *gated) {
  const long hidden = layer.hidden, wide = layer.wide;
  for (long c = 0; c < hidden; c += LANES) {
    vec kernel[18];
    for (int k = 0; k < 9; k++) {
      kernel[k] = load(layer.mix + k * wide + c);
      kernel[9 + k] = load(layer.mix + k * wide + hidden + c);
    }
    long x = first;
    for (; x < stop; x++) {
      const long at = x * wide + c, narrow = x * hidden + c;
      const float *here[3] = {rows[0] + at, rows[1] + at, rows[2] + at};
      if (x + 4 <= stop) {
        ungate<4>(here, wide, hidden, kernel, change + narrow, out + at, gated + narrow);
        x += 3;
      } else {
        ungate<1>(here, wide, hidden, kernel, change + narrow, out + at, gated + narrow);
      }
    }
  }
}

extern "C" long dtpf_feed_forward_gradient_scratch(long columns, long channels, long hidden) {
  return gradient_scratch(columns, channels, 2 * hidden) + 2 * (columns + 2) * hidden;
}

extern "C" long dtpf_feed_forward_gradient_packed(long channels, long hidden) {
  return channels * 2 * hidden + 9 * 2 * hidden + 2 * hidden * padded(channels) +
         channels * hidden;
}

extern "C" long dtpf_feed_forward_gradient_sums(long channels, long hidden) {
  const ProjectionGradient layer{{nullptr, nullptr, channels, 2 * hidden, {}}, nullptr};
  return layer.sums() + channels * hidden;
}

// `change` is the gradient of the result. Each tile's sums: those of a projection, then the weights
// of `reduce` (channels, hidden).
extern "C" void dtpf_feed_forward_gradient(const Threads *threads, const Tiles *tiles,
                                           const float *x, const float *change, float *result,
                                           float *sums, long channels, long hidden,
                                           const Norm *norm, const float *expand, const float *mix,
                                           const float *reduce, float *packed) {
  const long wide = 2 * hidden, width = tiles->width;
  float *packed_mix = packed + channels * wide, *back = packed_mix + 9 * wide;
  float *packed_reduce = back + wide * padded(channels);
  pack(expand, channels, wide, packed);
  pack_kernels(mix, wide, packed_mix);
  pack_transposed(expand, wide, channels, back);
  pack_transposed(reduce, channels, hidden, packed_reduce);
  const FeedForwardGradient layer{
      {{packed, packed_mix, channels, wide, *norm}, back}, packed_reduce, hidden};
  const long size = layer.sums() + channels * hidden;
  in_parallel(*threads, tiles->count(), [&](long piece, float *scratch) {
    const Tile tile(*tiles, piece);
    const long columns = tile.columns(), image = tile.image * tiles->height * width * channels;
    float *own = sums + piece * size, *reduce_sums = own + layer.sums();
    float *hidden_change = scratch + gradient_scratch(columns, channels, wide);
    float *gated = hidden_change + (columns + 2) * hidden;
    for (long i = 0; i < channels * hidden; i++) reduce_sums[i] = 0.0f;
    gradient_tile(
        layer, *tiles, tile, x, change, result, own, scratch,
        [&](long row, const float *const rows[3], long first, long stop, float *out) {
          const float *given = change + image + (row * width + tile.left - 1) * channels;
          product(given + first * channels, channels, stop - first, packed_reduce, channels,
                  hidden, hidden_change + first * hidden, hidden);
          ungate_row(layer, rows, first, stop, hidden_change, out, gated);
          if (row >= tile.top && row < tile.bottom)
            correlate(given + channels, channels, channels, gated + hidden, hidden, hidden,
                      columns, reduce_sums, hidden);
        });
  });
}
