// A pool of threads for lists of launches.
//
// A whole list is one job: every thread walks the list; within a launch, work-items are taken in small shares from an
// atomic counter, and a barrier ends the launch. Threads that wait spin for a moment (the next launch is microseconds
// away), then sleep on a condition variable, so an idle pool costs nothing and decoding threads are not starved.
#define _GNU_SOURCE
#include "CKernels.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define SPINS 2000
#define CACHE_LINE 128

struct graft_pool {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  pthread_t *threads;
  int count;                     // threads, the caller's among them
  const graft_launch *launches;  // the job
  size_t length;
  double *seconds;
  _Alignas(CACHE_LINE) atomic_ulong job;       // grows with every job
  atomic_int stopping;
  _Alignas(CACHE_LINE) atomic_long next;       // the next work-item of the current launch
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
  for (int i = 0; i < SPINS; ++i) {
    if (atomic_load_explicit(value, memory_order_acquire) != old) return;
    relax();
  }
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

/// All threads meet; the last resets the counter of work-items and opens the way.
static void barrier(graft_pool *pool) {
  unsigned long phase = atomic_load_explicit(&pool->phase, memory_order_acquire);
  if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == pool->count) {
    atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    advance(pool, &pool->phase);
  } else {
    await(pool, &pool->phase, phase);
  }
}

static void run_share(const graft_launch *launch, long first, long end) {
  long plane = (long)launch->x * launch->y;
  for (long i = first; i < end; ++i)
    launch->function(launch->buffers, launch->parameters, (int)(i % launch->x), (int)(i / launch->x % launch->y), (int)(i / plane));
}

static void run_job(graft_pool *pool, int leads) {
  // Copies: once the last barrier has opened, the caller may set the next job while others are still on their way out.
  const graft_launch *launches = pool->launches;
  size_t length = pool->length;
  for (size_t i = 0; i < length; ++i) {
    const graft_launch *launch = &launches[i];
    long total = (long)launch->x * launch->y * launch->z;
    long share = total / (pool->count * 8L);
    if (share < 1) share = 1;
    double start = leads && pool->seconds ? now() : 0;
    for (;;) {
      long first = atomic_fetch_add_explicit(&pool->next, share, memory_order_relaxed);
      if (first >= total) break;
      run_share(launch, first, first + share < total ? first + share : total);
    }
    barrier(pool);
    if (leads && pool->seconds) pool->seconds[i] = now() - start;
  }
}

static void *work(void *argument) {
  graft_pool *pool = argument;
  unsigned long seen = 0;
  for (;;) {
    await(pool, &pool->job, seen);
    seen += 1;
    if (atomic_load_explicit(&pool->stopping, memory_order_acquire)) return NULL;
    run_job(pool, 0);
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
  pool->threads = calloc((size_t)threads, sizeof *pool->threads);
  if (!pool->threads) {
    free(pool);
    return NULL;
  }
  for (int i = 1; i < threads; ++i) {
    if (pthread_create(&pool->threads[i], NULL, work, pool)) break;
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
  for (int i = 1; i < pool->count; ++i) pthread_join(pool->threads[i], NULL);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
  free(pool->threads);
  free(pool);
}

void graft_pool_run(graft_pool *pool, const graft_launch *launches, size_t count, double *seconds) {
  if (count == 0) return;
  pool->launches = launches;
  pool->length = count;
  pool->seconds = seconds;
  atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
  advance(pool, &pool->job);
  run_job(pool, 1);
}

int graft_available_cores(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
}
