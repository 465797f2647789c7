// Work in pieces that the threads of PyTorch take one after the other.
#pragma once

#include "vectors.h"

// GOMP_parallel of the OpenMP library that PyTorch itself uses; null: one thread.
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

struct Threads {
  Parallel run;
  long count;
  float *scratch;      // `count` parts
  long scratch_size;   // numbers in each
};

template <typename Body>
struct Pieces {
  const Body *body;
  const Threads *threads;
  long count, next, workers;
};

template <typename Body>
static void take_pieces(void *given) {
  auto *pieces = static_cast<Pieces<Body> *>(given);
  long worker = __atomic_fetch_add(&pieces->workers, 1, __ATOMIC_RELAXED);
  if (worker >= pieces->threads->count) return;
  float *scratch = pieces->threads->scratch + worker * pieces->threads->scratch_size;
  for (;;) {
    long piece = __atomic_fetch_add(&pieces->next, 1, __ATOMIC_RELAXED);
    if (piece >= pieces->count) return;
    (*pieces->body)(piece, scratch);
  }
}

// Calls body(piece, scratch of the thread) for every piece.
template <typename Body>
static void in_parallel(const Threads &threads, long count, const Body &body) {
  Pieces<Body> pieces{&body, &threads, count, 0, 0};
  if (threads.run && threads.count > 1 && count > 1)
    threads.run(take_pieces<Body>, &pieces, (unsigned)threads.count, 0);
  else
    take_pieces<Body>(&pieces);
}

// A batch of feature maps (batch, height, width, channels) cut into tiles.
struct Tiles {
  long batch, height, width, rows, columns;

  long down() const { return (height + rows - 1) / rows; }
  long across() const { return (width + columns - 1) / columns; }
  long count() const { return batch * down() * across(); }
};

struct Tile {
  long image, top, bottom, left, right;

  Tile(const Tiles &tiles, long index) {
    left = index % tiles.across() * tiles.columns;
    right = least(left + tiles.columns, tiles.width);
    index /= tiles.across();
    top = index % tiles.down() * tiles.rows;
    bottom = least(top + tiles.rows, tiles.height);
    image = index / tiles.down();
  }
  long columns() const { return right - left; }
};
