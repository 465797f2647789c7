// Gradients of what channel attention looks at: products of queries and keys, squares, values.

#include "projection_gradient.h"

extern "C" long dtpf_look_gradient_scratch(long columns, long channels) {
  const long wide = look_width(channels);
  return gradient_scratch(columns, channels, wide) + (columns + 2) * wide + LANES;
}

extern "C" long dtpf_look_gradient_packed(long channels, long batch) {
  const long wide = look_width(channels);
  return channels * wide + 9 * wide + wide * padded(channels) +
         2 * batch * channels * padded(channels);
}

extern "C" long dtpf_look_gradient_sums(long channels) {
  const ProjectionGradient layer{{nullptr, nullptr, channels, look_width(channels), {}}, nullptr};
  return layer.sums();
}

// Writes dq = k products^T + 2 q squares and dk = q products + 2 k squares of some pixels.
static void correlation_gradient(const float *mixed, long count, long channels, long wide,
                                 const float *to_query, const float *to_key, const float *squares,
                                 float *out) {
  product(mixed + channels, wide, count, to_query, channels, channels, out, wide);
  product(mixed, wide, count, to_key, channels, channels, out + channels, wide);
  for (long p = 0; p < count; p++)
    for (long c = 0; c < 2 * channels; c++)
      out[p * wide + c] += 2 * squares[c] * mixed[p * wide + c];
}

// `change` is the gradient of the values, `products` (batch, channels, channels) that of the
// products, `squares` (batch, 2, channels) that of the squares of queries and keys; `qkv` and
// `mix` are padded with zeros to dtpf_look_width.
extern "C" void dtpf_look_gradient(const Threads *threads, const Tiles *tiles, const float *x,
                                   const float *change, const float *products,
                                   const float *squares, float *result, float *sums, long channels,
                                   const Norm *norm, const float *qkv, const float *mix,
                                   float *packed) {
  const long wide = look_width(channels), width = tiles->width;
  const long size = channels * padded(channels);
  float *packed_mix = packed + channels * wide, *back = packed_mix + 9 * wide;
  float *to_query = back + wide * padded(channels), *to_key = to_query + tiles->batch * size;
  pack(qkv, channels, wide, packed);
  pack_kernels(mix, wide, packed_mix);
  pack_transposed(qkv, wide, channels, back);
  for (long b = 0; b < tiles->batch; b++) {
    pack(products + b * channels * channels, channels, channels, to_query + b * size);
    pack_transposed(products + b * channels * channels, channels, channels, to_key + b * size);
  }
  const ProjectionGradient layer{{packed, packed_mix, channels, wide, *norm}, back};
  in_parallel(*threads, tiles->count(), [&](long piece, float *scratch) {
    const Tile tile(*tiles, piece);
    const long columns = tile.columns(), image = tile.image * tiles->height * width * channels;
    float *mixed = scratch + gradient_scratch(columns, channels, wide);
    gradient_tile(
        layer, *tiles, tile, x, nullptr, result, sums + piece * layer.sums(), scratch,
        [&](long row, const float *const rows[3], long first, long stop, float *out) {
          const float *inside[3];
          for (int r = 0; r < 3; r++) inside[r] = rows[r] + first * wide;
          mix_row(layer, inside, stop - first, padded(2 * channels), mixed);
          correlation_gradient(mixed, stop - first, channels, wide, to_query + tile.image * size,
                               to_key + tile.image * size, squares + tile.image * 2 * channels,
                               out + first * wide);
          for (long p = first; p < stop; p++) {
            const float *given =
                change + image + (row * width + tile.left - 1 + p) * channels;
            float *value = out + p * wide + 2 * channels;
            for (long c = 0; c < channels; c++) value[c] = given[c];
            for (long c = channels; c < wide - 2 * channels; c++) value[c] = 0.0f;
          }
        });
  });
}
