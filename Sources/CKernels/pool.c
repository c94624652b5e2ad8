// A pool of threads for lists of launches.
//
// A whole list is one job: every thread walks the list; a barrier ends each launch. A launch's work-items are cut into one part
// a thread, the same part of the grid's x every time: what a thread reads it has mostly written itself, so it lies in its own
// core's caches, and where cores have last-level caches apart (several dies, or a virtual machine spread over them) little has to
// cross between them. Who is done early takes what others have left, in small shares from atomic counters.
//
// Threads that wait spin for a moment (the next launch is microseconds away), then sleep on a condition variable, so an idle
// pool costs nothing and decoding threads are not starved.
#define _GNU_SOURCE
#include "CKernels.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

// Waking a thread that sleeps takes about 0.1 ms on a virtual machine; one that spins keeps a core from whoever else needs it.
#define SPIN_SECONDS 50e-6
#define SPINS_BETWEEN_CLOCKS 64
#define CACHE_LINE 128

typedef struct {
  _Alignas(CACHE_LINE) atomic_long next;  // the next work-item of the thread's part of the current launch
  graft_pool *pool;
  int index;
  pthread_t thread;
} graft_worker;

struct graft_pool {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  graft_worker *workers;
  int count;                     // threads, the caller's (worker 0) among them
  const graft_launch *launches;  // the job
  size_t length;
  double *seconds;
  _Alignas(CACHE_LINE) atomic_ulong job;       // grows with every job
  atomic_int stopping;
  _Alignas(CACHE_LINE) atomic_int arrived;     // threads at the barrier
  _Alignas(CACHE_LINE) atomic_ulong phase;     // grows when a barrier opens
  _Alignas(CACHE_LINE) atomic_int sleepers;    // threads that wait on `wake`, or are about to
};

static inline void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Who waits says so before it looks a last time, and who advances looks for sleepers after: one of the two sees the other,
// since both are sequentially consistent.

/// Waits until `value` is no longer `old`.
static void await(graft_pool *pool, atomic_ulong *value, unsigned long old) {
  const double end = now() + SPIN_SECONDS;
  do {
    for (int i = 0; i < SPINS_BETWEEN_CLOCKS; ++i) {
      if (atomic_load_explicit(value, memory_order_acquire) != old) return;
      relax();
    }
  } while (now() < end);
  pthread_mutex_lock(&pool->lock);
  atomic_fetch_add(&pool->sleepers, 1);
  while (atomic_load(value) == old) pthread_cond_wait(&pool->wake, &pool->lock);
  atomic_fetch_sub(&pool->sleepers, 1);
  pthread_mutex_unlock(&pool->lock);
}

static void advance(graft_pool *pool, atomic_ulong *value) {
  atomic_fetch_add(value, 1);
  if (atomic_load(&pool->sleepers) == 0) return;
  pthread_mutex_lock(&pool->lock);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->lock);
}

static void reset(graft_pool *pool) {
  for (int i = 0; i < pool->count; ++i) atomic_store_explicit(&pool->workers[i].next, 0, memory_order_relaxed);
}

/// All threads meet; the last resets the counters of work-items and opens the way.
static void barrier(graft_pool *pool) {
  unsigned long phase = atomic_load_explicit(&pool->phase, memory_order_acquire);
  if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == pool->count) {
    atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
    reset(pool);
    advance(pool, &pool->phase);
  } else {
    await(pool, &pool->phase, phase);
  }
}

/// A thread's part of a launch: `width` of the grid's x from `firstX` on, and of what y and z make together `depth` from
/// `firstPlane` on. Work-items are counted along x first.
typedef struct { long firstX, width, firstPlane, depth; } part;

static part part_of(const graft_launch *launch, int index, int count) {
  const long x = launch->x, planes = (long)launch->y * launch->z;
  // Along x, unless it has too few to be shared evenly.
  if (x >= 4L * count || x % count == 0 || planes < count) {
    const long first = x * index / count;
    return (part){first, x * (index + 1) / count - first, 0, planes};
  }
  const long first = planes * index / count;
  return (part){0, x, first, planes * (index + 1) / count - first};
}

static void run_share(const graft_launch *launch, const part *part, long first, long end) {
  for (long i = first; i < end; ++i) {
    const long plane = part->firstPlane + i / part->width;
    launch->function(launch->buffers, launch->parameters, (int)(part->firstX + i % part->width), (int)(plane % launch->y), (int)(plane / launch->y));
  }
}

/// Runs this worker's part, then what is left of the others'.
static void run_launch(graft_pool *pool, const graft_launch *launch, int index) {
  for (int i = 0; i < pool->count; ++i) {
    const int owner = (index + i) % pool->count;
    const part part = part_of(launch, owner, pool->count);
    const long total = part.width * part.depth;
    long share = total / 8;
    if (share < 1 || i > 0) share = 1;
    for (;;) {
      const long first = atomic_fetch_add_explicit(&pool->workers[owner].next, share, memory_order_relaxed);
      if (first >= total) break;
      run_share(launch, &part, first, first + share < total ? first + share : total);
    }
  }
}

static void run_job(graft_pool *pool, int index) {
  // Copies: once the last barrier has opened, the caller may set the next job while others are still on their way out.
  const graft_launch *launches = pool->launches;
  size_t length = pool->length;
  for (size_t i = 0; i < length; ++i) {
    double start = index == 0 && pool->seconds ? now() : 0;
    run_launch(pool, &launches[i], index);
    barrier(pool);
    if (index == 0 && pool->seconds) pool->seconds[i] = now() - start;
  }
}

static void *work(void *argument) {
  const graft_worker *worker = argument;
  graft_pool *pool = worker->pool;
  unsigned long seen = 0;
  for (;;) {
    await(pool, &pool->job, seen);
    seen += 1;
    if (atomic_load_explicit(&pool->stopping, memory_order_acquire)) return NULL;
    run_job(pool, worker->index);
  }
}

graft_pool *graft_pool_create(int threads) {
  if (threads < 1) threads = 1;
  graft_pool *pool = NULL;
  if (posix_memalign((void **)&pool, CACHE_LINE, sizeof *pool)) return NULL;
  *pool = (graft_pool){0};
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  pool->count = 1;
  if (posix_memalign((void **)&pool->workers, CACHE_LINE, (size_t)threads * sizeof *pool->workers)) {
    free(pool);
    return NULL;
  }
  for (int i = 0; i < threads; ++i) pool->workers[i] = (graft_worker){.pool = pool, .index = i};
  for (int i = 1; i < threads; ++i) {
    if (pthread_create(&pool->workers[i].thread, NULL, work, &pool->workers[i])) break;
    pool->count += 1;
  }
  if (pool->count != threads) {
    graft_pool_destroy(pool);
    return NULL;
  }
  return pool;
}

void graft_pool_destroy(graft_pool *pool) {
  if (!pool) return;
  atomic_store_explicit(&pool->stopping, 1, memory_order_release);
  advance(pool, &pool->job);
  for (int i = 1; i < pool->count; ++i) pthread_join(pool->workers[i].thread, NULL);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
  free(pool->workers);
  free(pool);
}

void graft_pool_run(graft_pool *pool, const graft_launch *launches, size_t count, double *seconds) {
  if (count == 0) return;
  pool->launches = launches;
  pool->length = count;
  pool->seconds = seconds;
  reset(pool);
  advance(pool, &pool->job);
  run_job(pool, 0);
}

int graft_available_cores(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
}
