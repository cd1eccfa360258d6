// What an operator computes on a CPU, as phases of tasks. A session's threads go through all of them in one call of ONNX
// Runtime's thread pool: waking a thread, and waiting for it, takes as long as many a phase.

#pragma once
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "cpu.h"
#include "operators.h"

enum {
  MOST_PHASES = 32,
  MOST_RANGES = 8,           // parts of a phase that begin in different threads, a power of two
  WORTH_A_THREAD = 1 << 16,  // operations below which waking the other threads takes longer than it wins
  SPINS = 1 << 15,           // looks at a phase that is not done, before a thread lets others have the processor
  LINE = 64,                 // bytes: threads that write to different lines do not wait for each other
};

// Tasks that lie one after the other, as what they read does in memory.
typedef struct Range {
  alignas(LINE) _Atomic size_t next;  // the first that nobody has taken
  size_t end;
} Range;

typedef struct Phase {
  Task *task;
  void *work;
  size_t tasks;
  bool waits;  // for all phases before it
  alignas(LINE) _Atomic size_t done;
  Range ranges[MOST_RANGES];
} Phase;

typedef struct Program {
  size_t count, operations, ranges;  // of phases; of all of them, about; of each, a power of two
  _Atomic size_t threads;            // that have come
  Phase phases[MOST_PHASES];
} Program;

static inline void new_program(Program *program) {
  program->count = program->operations = 0;
  program->ranges = 1;
  while (program->ranges < MOST_RANGES && 2 * program->ranges <= cores()) program->ranges *= 2;
  atomic_init(&program->threads, 0);
}

// One phase more; ``operations`` of all its tasks. It begins when all before it are done, or, if it ``joins`` them, when
// those are that the one before it has waited for.
static inline void add_phase(Program *program, Task *task, size_t tasks, size_t operations, void *work) {
  if (!tasks) return;
  const size_t ranges = program->ranges;
  Phase *phase = &program->phases[program->count++];
  phase->task = task;
  phase->work = work;
  phase->tasks = tasks;
  phase->waits = true;
  atomic_init(&phase->done, 0);
  for (size_t i = 0, begin = 0; i < ranges; ++i) {
    Range *range = &phase->ranges[i];
    atomic_init(&range->next, begin);
    range->end = (tasks * (i + 1) + ranges - 1) / ranges;
    begin = range->end;
  }
  program->operations += operations;
}
static inline void join_phase(Program *program, Task *task, size_t tasks, size_t operations, void *work) {
  if (!tasks) return;
  add_phase(program, task, tasks, operations, work);
  program->phases[program->count - 1].waits = false;
}

static inline void pause_a_little(void) {
#ifdef __x86_64__
  __builtin_ia32_pause();
#else
  __asm__ volatile("yield");
#endif
}

static inline void wait_for(Phase *phase) {
  for (size_t looks = 0; atomic_load_explicit(&phase->done, memory_order_acquire) < phase->tasks; ++looks) {
    if (looks < SPINS) pause_a_little();
    else sched_yield();
  }
}

// Do the tasks of the thread's own range, and then of others: half of what there is at a time, and one at the end, so that
// threads end together. Fewer threads than ranges meet late, in the order in which they go: 0, 4, 2, 6 and 1, 5, 3, 7.
static inline void take_part(Phase *phase, size_t thread, size_t ranges) {
  static const unsigned char order[MOST_RANGES] = {0, 4, 2, 6, 1, 5, 3, 7};
  size_t done = 0;
  for (size_t i = 0; i < ranges; ++i) {
    Range *range = &phase->ranges[(thread ^ order[i] * ranges / MOST_RANGES) % ranges];
    size_t begin = atomic_load_explicit(&range->next, memory_order_relaxed);
    while (begin < range->end) {
      const size_t end = begin + (range->end - begin + 1) / 2;
      if (!atomic_compare_exchange_weak_explicit(&range->next, &begin, end, memory_order_relaxed, memory_order_relaxed))
        continue;
      for (size_t task = begin; task < end; ++task) phase->task(phase->work, task);
      done += end - begin;
      begin = atomic_load_explicit(&range->next, memory_order_relaxed);
    }
  }
  if (done) atomic_fetch_add_explicit(&phase->done, done, memory_order_release);
}

// What each thread does. One that comes late, or never, keeps nobody waiting: it has taken no task.
static inline void walk(void *user, size_t) {
  Program *program = user;
  Phase *phases = program->phases, *waited = phases, *end = phases + program->count;
  if (atomic_load_explicit(&end[-1].done, memory_order_relaxed) == end[-1].tasks) return;
  const size_t thread = atomic_fetch_add_explicit(&program->threads, 1, memory_order_relaxed);
  for (Phase *phase = phases; phase < end; ++phase) {
    for (; phase->waits && waited < phase; ++waited) wait_for(waited);
    take_part(phase, thread, program->ranges);
  }
}

// Run it, on the session's threads if there is enough to do. When it returns, all is done: whoever has taken a task has
// ended it before the pool lets go of him.
static inline OrtStatus *run(const OrtKernelContext *context, Program *program) {
  const size_t threads = cores();
  if (!program->count) return NULL;
  if (program->operations >= WORTH_A_THREAD && threads > 1)
    return api->KernelContext_ParallelFor(context, walk, threads, 0, program);
  walk(program, 0);
  return NULL;
}
