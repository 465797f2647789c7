// Channel attention in two passes: sums over the image and the values first, then x + values * W.

#include "projection.h"

struct Look : Projection {
  long heads;
};

// Adds a row's products of queries and keys of the same head; `sums` is (channels, channels + 16).
static void correlate_row(const Look &layer, const float *mixed, long columns, float *sums) {
  const long channels = layer.channels, size = channels / layer.heads;
  const long stride = channels + LANES;
  for (long head = 0; head < channels; head += size)
    correlate(mixed + head, layer.wide, size, mixed + channels + head, layer.wide, size, columns,
              sums + head * stride + head, stride);
}

static void square_row(const Look &layer, const float *mixed, long columns, float *squares) {
  for (long p = 0; p < columns; p++, mixed += layer.wide)
    for (long c = 0; c < 2 * layer.channels; c++) squares[c] += mixed[c] * mixed[c];
}

INLINE long sums_size(long channels) { return channels * (channels + LANES) + 2 * channels; }

static void look_tile(const Look &layer, const Tiles &tiles, const Tile &tile, const float *x,
                      float *values, float *sums, float *scratch) {
  const long columns = tile.columns(), channels = layer.channels;
  const long size = (columns + 2) * layer.wide;
  float *normal = scratch, *ring = normal + round_up((columns + 2) * channels, LANES);
  float *mixed = ring + 3 * size;
  const long image = tile.image * tiles.height * tiles.width * channels;
  for (long i = 0; i < sums_size(channels); i++) sums[i] = 0.0f;
  for (long row = tile.top - 1; row <= tile.bottom; row++) {
    project_row(layer, tiles, tile, row, 1, x + image, normal, ring + (row + 3) % 3 * size);
    const long done = row - 1;
    if (done < tile.top) continue;
    const float *rows[3];
    for (int r = 0; r < 3; r++) rows[r] = ring + (done + r + 2) % 3 * size;
    mix_row(layer, rows, columns, layer.wide, mixed);
    correlate_row(layer, mixed, columns, sums);
    square_row(layer, mixed, columns, sums + channels * (channels + LANES));
    float *to = values + image + (done * tiles.width + tile.left) * channels;
    for (long p = 0; p < columns; p++)
      for (long c = 0; c < channels; c++)
        to[p * channels + c] = mixed[p * layer.wide + 2 * channels + c];
  }
}

extern "C" long dtpf_look_width(long channels) { return look_width(channels); }

extern "C" long dtpf_look_scratch(long columns, long channels) {
  const long wide = look_width(channels);
  // 16 more: a head of fewer than 16 channels reads beyond the last key.
  return round_up((columns + 2) * channels, LANES) + 3 * (columns + 2) * wide + columns * wide +
         LANES;
}

extern "C" long dtpf_look_packed(long channels) {
  const long wide = look_width(channels);
  return channels * wide + 9 * wide;
}

extern "C" long dtpf_look_sums(long channels) { return sums_size(channels); }

// Writes the values, and for every tile its sums: products (channels, channels + 16), of which only
// pairs of one head count, then the squares of queries and of keys. `qkv` and `mix` are padded with
// zeros to dtpf_look_width.
extern "C" void dtpf_look(const Threads *threads, const Tiles *tiles, const float *x,
                          float *values, float *sums, long channels, long heads, const Norm *norm,
                          const float *qkv, const float *mix, float *packed) {
  const long wide = look_width(channels);
  pack(qkv, channels, wide, packed);
  pack_kernels(mix, wide, packed + channels * wide);
  const Look layer{{packed, packed + channels * wide, channels, wide, *norm}, heads};
  in_parallel(*threads, tiles->count(), [&](long piece, float *scratch) {
    look_tile(layer, *tiles, Tile(*tiles, piece), x, values, sums + piece * sums_size(channels),
              scratch);
  });
}

// result = x + values * weight; weight (batch, channels in, channels out), packed as many numbers
// as batch * channels * padded(channels). `values` may be `result`.
extern "C" void dtpf_mix_channels(const Threads *threads, const Tiles *tiles, const float *x,
                                  const float *values, float *result, long channels,
                                  const float *weight, float *packed) {
  const long size = channels * padded(channels);
  for (long b = 0; b < tiles->batch; b++)
    pack_transposed(weight + b * channels * channels, channels, channels, packed + b * size);
  in_parallel(*threads, tiles->count(), [&](long piece, float *change) {
    const Tile tile(*tiles, piece);
    for (long row = tile.top; row < tile.bottom; row++) {
      const long pixel = (tile.image * tiles->height + row) * tiles->width + tile.left;
      const long at = pixel * channels;
      product(values + at, channels, tile.columns(), packed + tile.image * size, channels,
              channels, change, padded(channels));
      add(x + at, change, tile.columns(), channels, result + at);
    }
  });
}
