// The gradient of layer norm.
#pragma once

#include "matrix.h"

// Adds to the gradients of weight and bias of the norm (padded channels); writes that of the pixels,
// plus `more` unless that is null. `grad` is (count, padded channels). Lanes beyond the channels are
// kept at zero: pixels are copied to `room`, four times the padded channels.
static void normalise_gradient(const float *pixels, const float *grad, long count, long channels,
                               const Norm &norm, const float *more, float *out, float *weight,
                               float *bias, float *room) {
  const long width = padded(channels);
  const float share = 1.0f / channels;
  float *normal = room, *given = room + width, *scales = room + 2 * width, *ones = scales + width;
  for (long c = 0; c < width; c++) {
    scales[c] = c < channels ? norm.weight[c] : 0.0f;
    ones[c] = c < channels ? 1.0f : 0.0f;
    normal[c] = 0.0f;
  }
  for (long p = 0; p < count; p++, pixels += channels, out += channels, grad += width) {
    const float *from = pixels;
    if (width > channels) {
      for (long c = 0; c < channels; c++) normal[c] = pixels[c];
      from = normal;
    }
    vec sum{}, squares{}, alongs{}, acrosses{};
    for (long c = 0; c < width; c += LANES) sum += load(from + c);
    const vec mean = sum_of_lanes(sum) * all(share);
    for (long c = 0; c < width; c += LANES) {
      const vec centred = (load(from + c) - mean) * load(ones + c);
      squares += centred * centred;
    }
    const float square = sum_of_lanes(squares)[0];
    const vec scale = all(1.0f / __builtin_sqrtf(square * share + norm.epsilon));
    for (long c = 0; c < width; c += LANES) {
      const vec value = (load(from + c) - mean) * scale * load(ones + c), change = load(grad + c);
      const vec weighed = change * load(scales + c);
      store(weight + c, load(weight + c) + change * value);
      store(bias + c, load(bias + c) + change);
      store(normal + c, value);
      store(given + c, weighed);
      alongs += weighed;
      acrosses += weighed * value;
    }
    const vec along = sum_of_lanes(alongs) * all(share);
    const vec across = sum_of_lanes(acrosses) * all(share);
    for (long c = 0; c < width; c += LANES)
      store(given + c, scale * (load(given + c) - along - load(normal + c) * across));
    long c = 0;
    for (; c + LANES <= channels; c += LANES)
      store(out + c, more ? load(given + c) + load(more + c) : load(given + c));
    for (; c < channels; c++) out[c] = given[c] + (more ? more[c] : 0.0f);
    for (c = channels; c < width; c++) normal[c] = 0.0f;
    if (more) more += channels;
  }
}
