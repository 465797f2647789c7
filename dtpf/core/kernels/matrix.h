// Products of pixels with weights, layer norm, 3x3 convolution per channel: what all layers share.
#pragma once

#include "vectors.h"

// Weights lie in panels of 32 outputs (the last may have 16): inputs x width, one after the other.
constexpr long PANEL = 32;

// The width that a number of channels has in scratch memory, the rest being zeros.
INLINE long padded(long channels) { return round_up(channels, LANES); }

// Packs a matrix (outputs, inputs) row by row into panels; `to` holds inputs * padded(outputs).
static void pack(const float *weight, long inputs, long outputs, float *to) {
  for (long first = 0; first < outputs; first += LANES) {
    long panel = first / PANEL * PANEL, width = least(PANEL, padded(outputs) - panel);
    float *out = to + panel * inputs + (first - panel);
    long k = 0;
    if (first + LANES <= outputs)
      for (; k + LANES <= inputs; k += LANES) {
        vec block[16];
        for (int i = 0; i < 16; i++) block[i] = load(weight + (first + i) * inputs + k);
        transpose(block);
        for (int i = 0; i < 16; i++) store(out + (k + i) * width, block[i]);
      }
    for (; k < inputs; k++)
      for (long i = 0; i < LANES; i++)
        out[k * width + i] = first + i < outputs ? weight[(first + i) * inputs + k] : 0.0f;
  }
}

// The same for a matrix (inputs, outputs).
static void pack_transposed(const float *weight, long inputs, long outputs, float *to) {
  for (long first = 0; first < outputs; first += LANES) {
    long panel = first / PANEL * PANEL, width = least(PANEL, padded(outputs) - panel);
    float *out = to + panel * inputs + (first - panel);
    for (long k = 0; k < inputs; k++)
      for (long i = 0; i < LANES; i++)
        out[k * width + i] = first + i < outputs ? weight[k * outputs + first + i] : 0.0f;
  }
}

template <int ROWS, int VECS>
INLINE void block(const float *pixels, long stride, const float *panel, long inputs, float *out,
                  long out_stride) {
  vec sum[ROWS][VECS] = {};
  for (long k = 0; k < inputs; k++) {
    vec weight[VECS];
#pragma GCC unroll 4
    for (int v = 0; v < VECS; v++) weight[v] = load(panel + (k * VECS + v) * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
      vec value = all(pixels[r * stride + k]);
#pragma GCC unroll 4
      for (int v = 0; v < VECS; v++) sum[r][v] += value * weight[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECS; v++) store(out + r * out_stride + v * LANES, sum[r][v]);
}

#ifdef __AVX512F__
constexpr int ROWS = 12;  // 24 of 32 registers hold sums
#else
constexpr int ROWS = 3;
#endif

template <int VECS>
static void panel_product(const float *pixels, long stride, long rows, const float *panel,
                          long inputs, float *out, long out_stride) {
  long r = 0;
  for (; r + ROWS <= rows; r += ROWS)
    block<ROWS, VECS>(pixels + r * stride, stride, panel, inputs, out + r * out_stride, out_stride);
  for (; r + 2 <= rows; r += 2)
    block<2, VECS>(pixels + r * stride, stride, panel, inputs, out + r * out_stride, out_stride);
  for (; r < rows; r++)
    block<1, VECS>(pixels + r * stride, stride, panel, inputs, out + r * out_stride, out_stride);
}

// out[row][output] = sum over inputs; a panel's results lie `panel_step` numbers after the last's.
static void product(const float *pixels, long stride, long rows, const float *panels, long inputs,
                    long outputs, float *out, long out_stride, long panel_step = PANEL) {
  for (long first = 0; first < outputs; first += PANEL) {
    const float *panel = panels + first * inputs;
    float *to = out + first / PANEL * panel_step;
    if (padded(outputs) - first > LANES)
      panel_product<2>(pixels, stride, rows, panel, inputs, to, out_stride);
    else
      panel_product<1>(pixels, stride, rows, panel, inputs, to, out_stride);
  }
}

struct Norm {
  const float *weight, *bias;
  float epsilon;
};

// Layer norm of each of `count` pixels.
static void normalise(const float *pixels, long count, long channels, const Norm &norm,
                      float *out) {
  const float share = 1.0f / channels;
  for (long p = 0; p < count; p++, pixels += channels, out += channels) {
    long c = 0;
    float mean = 0, square = 0;
    vec sum{}, squares{};
    for (; c + LANES <= channels; c += LANES) sum += load(pixels + c);
    if (c) mean = sum_of_lanes(sum)[0];
    for (; c < channels; c++) mean += pixels[c];
    mean *= share;
    for (c = 0; c + LANES <= channels; c += LANES) {
      vec centred = load(pixels + c) - all(mean);
      squares += centred * centred;
    }
    if (c) square = sum_of_lanes(squares)[0];
    for (; c < channels; c++) square += (pixels[c] - mean) * (pixels[c] - mean);
    float scale = 1.0f / __builtin_sqrtf(square * share + norm.epsilon);
    for (c = 0; c + LANES <= channels; c += LANES)
      store(out + c, (load(pixels + c) - all(mean)) * all(scale) * load(norm.weight + c) +
                         load(norm.bias + c));
    for (; c < channels; c++)
      out[c] = (pixels[c] - mean) * scale * norm.weight[c] + norm.bias[c];
  }
}

// Adds `change` (stride `padded(channels)`) to pixels.
static void add(const float *pixels, const float *change, long count, long channels, float *out) {
  const long stride = padded(channels);
  for (long p = 0; p < count; p++, pixels += channels, out += channels, change += stride) {
    long c = 0;
    for (; c + LANES <= channels; c += LANES) store(out + c, load(pixels + c) + load(change + c));
    for (; c < channels; c++) out[c] = pixels[c] + change[c];
  }
}

// The nine weights of 3x3 kernels (channels, 3, 3), position by position: (9, padded(channels)).
static void pack_kernels(const float *kernels, long channels, float *to) {
  const long width = padded(channels);
  for (int k = 0; k < 9; k++)
    for (long c = 0; c < width; c++) to[k * width + c] = c < channels ? kernels[c * 9 + k] : 0.0f;
}

// Convolves 16 channels of PIXELS neighbours; `rows` point at the pixel left of the first.
template <int PIXELS>
INLINE void convolve(const float *const rows[3], long stride, const vec kernel[9],
                     vec out[PIXELS]) {
#pragma GCC unroll 8
  for (int p = 0; p < PIXELS; p++) out[p] = vec{};
#pragma GCC unroll 3
  for (int dy = 0; dy < 3; dy++)
#pragma GCC unroll 3
    for (int dx = 0; dx < 3; dx++)
#pragma GCC unroll 8
      for (int p = 0; p < PIXELS; p++)
        out[p] += load(rows[dy] + (p + dx) * stride) * kernel[3 * dy + dx];
}

// sums[i][j] += sum over pixels of a[i] b[j], for HEIGHT i and VECS * 16 j.
template <int HEIGHT, int VECS>
INLINE void correlate_block(const float *a, long a_stride, const float *b, long b_stride,
                            long count, float *sums, long stride) {
  vec total[HEIGHT][VECS];
#pragma GCC unroll 16
  for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 4
    for (int v = 0; v < VECS; v++) total[i][v] = load(sums + i * stride + v * LANES);
  for (long p = 0; p < count; p++, a += a_stride, b += b_stride) {
    vec other[VECS];
#pragma GCC unroll 4
    for (int v = 0; v < VECS; v++) other[v] = load(b + v * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < HEIGHT; i++) {
      const vec value = all(a[i]);
#pragma GCC unroll 4
      for (int v = 0; v < VECS; v++) total[i][v] += value * other[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 4
    for (int v = 0; v < VECS; v++) store(sums + i * stride + v * LANES, total[i][v]);
}

template <int VECS>
static void correlate_panel(const float *a, long a_stride, long outputs, const float *b,
                            long b_stride, long count, float *sums, long stride) {
  constexpr int STEP = ROWS > 8 ? 8 : 2;
  long i = 0;
  for (; i + STEP <= outputs; i += STEP)
    correlate_block<STEP, VECS>(a + i, a_stride, b, b_stride, count, sums + i * stride, stride);
  for (; i < outputs; i++)
    correlate_block<1, VECS>(a + i, a_stride, b, b_stride, count, sums + i * stride, stride);
}

// sums (outputs, stride) += a^T b: a (count, outputs) and b (count, inputs), of which whole
// vectors are read.
static void correlate(const float *a, long a_stride, long outputs, const float *b, long b_stride,
                      long inputs, long count, float *sums, long stride) {
  long j = 0;
  for (; j + PANEL <= padded(inputs); j += PANEL)
    correlate_panel<2>(a, a_stride, outputs, b + j, b_stride, count, sums + j, stride);
  if (j < inputs)
    correlate_panel<1>(a, a_stride, outputs, b + j, b_stride, count, sums + j, stride);
}
