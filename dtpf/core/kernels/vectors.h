// Vectors of 16 floats: one AVX-512 register, two of AVX, four of NEON. No intrinsics, no library.
#pragma once

typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int ints __attribute__((vector_size(64), aligned(4), may_alias));

constexpr long LANES = 16;

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *reinterpret_cast<const vec *>(from); }
INLINE void store(float *to, vec value) { *reinterpret_cast<vec *>(to) = value; }
INLINE vec all(float value) { return value - vec{}; }
INLINE long least(long a, long b) { return a < b ? a : b; }
INLINE long most(long a, long b) { return a > b ? a : b; }
INLINE long round_up(long value, long multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

INLINE vec larger(vec a, vec b) { return a > b ? a : b; }
INLINE vec smaller(vec a, vec b) { return a < b ? a : b; }

#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define FOLDED(value, combine)                                                             \
  value = combine(value, SHUFFLED(value, value, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3,  \
                                  4, 5, 6, 7));                                            \
  value = combine(value, SHUFFLED(value, value, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, \
                                  9, 10, 11));                                             \
  value = combine(value, SHUFFLED(value, value, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14,  \
                                  15, 12, 13));                                            \
  value = combine(value, SHUFFLED(value, value, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13,  \
                                  12, 15, 14))

INLINE vec plus(vec a, vec b) { return a + b; }
INLINE vec sum_of_lanes(vec value) {
  FOLDED(value, plus);
  return value;
}
INLINE vec largest_lane(vec value) {
  FOLDED(value, larger);
  return value;
}

// Transposes 16 x 16 numbers: four times, rows i and i + 8 become one pair of neighbours.
INLINE void transpose(vec rows[16]) {
#pragma GCC unroll 4
  for (int round = 0; round < 4; round++) {
    vec next[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      next[2 * i] = SHUFFLED(rows[i], rows[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22,
                             7, 23);
      next[2 * i + 1] = SHUFFLED(rows[i], rows[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                                 29, 14, 30, 15, 31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) rows[i] = next[i];
  }
}

// 2^x for x <= 0 to 1e-7 of its value; 0 below -126.
INLINE vec power_of_two(vec x) {
  const vec shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  vec clamped = larger(x, all(-127.0f));
  vec shifted = clamped + shift;
  vec part = clamped - (shifted - shift);  // in [-0.5, 0.5]
  vec power = all(1.5353362e-4f);
  power = power * part + all(1.3398874e-3f);
  power = power * part + all(9.6184373e-3f);
  power = power * part + all(5.5503324e-2f);
  power = power * part + all(2.4022648e-1f);
  power = power * part + all(6.9314720e-1f);
  power = power * part + all(1.0f);
  ints exponent = (reinterpret_cast<ints &>(shifted) - 0x4B400000 + 127) << 23;
  return power * reinterpret_cast<vec &>(exponent);
}

// The normal distribution's Phi to 2e-7: a rational fit (5, 5) in x^2 of (Phi(x) - 1/2) / x on
// [0, 5.6]; 0 below.
INLINE vec normal_distribution(vec x) {
  const vec end = all(5.6f);
  vec inside = smaller(larger(x, -end), end), square = inside * inside;
  vec above = all(2.2145057e-8f), below = all(1.1802055e-6f);
  above = above * square + all(6.3565454e-6f);
  below = below * square + all(7.5102797e-5f);
  above = above * square + all(1.7385355e-4f);
  below = below * square + all(1.9129942e-3f);
  above = above * square + all(4.7072764e-3f);
  below = below * square + all(2.8940248e-2f);
  above = above * square + all(3.4376389e-2f);
  below = below * square + all(2.5283454e-1f);
  above = above * square + all(3.9894222e-1f);
  below = below * square + all(1.0f);
  return x < -end ? vec{} : all(0.5f) + inside * (above / below);
}

INLINE vec gelu(vec x) { return x * normal_distribution(x); }

// The derivative of GELU, given Phi(x).
INLINE vec gelu_slope(vec x, vec distribution) {
  const vec density = all(0.39894228f) * power_of_two(all(-0.72134752f) * x * x);
  return distribution + x * density;
}
