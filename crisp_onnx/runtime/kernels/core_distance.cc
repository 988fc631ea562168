// Two threads, each held on a core of its own, hand one number to and fro.
#include "core_distance.h"

#ifdef __linux__
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <thread>
#endif

namespace crisp {
#ifdef __linux__
namespace {

constexpr int kPasses = 5;
constexpr int kTrips = 5000;
constexpr std::chrono::milliseconds kLongest{50};  // a pass among busy cores ends early
using Clock = std::chrono::steady_clock;

struct Table {
  alignas(128) std::atomic<int> turn{0};
  alignas(128) std::atomic<bool> over{false};
};

void stay_on(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

double round_trip_ns(int first, int second) {
  Table table;
  double found = 0;
  std::thread answering([&] {
    stay_on(second);
    while (!table.over.load(std::memory_order_relaxed)) {
      if (table.turn.load(std::memory_order_acquire) == 1) table.turn.store(0, std::memory_order_release);
    }
  });
  std::thread asking([&] {
    stay_on(first);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Clock::time_point start = Clock::now();
    int trips = 0;
    while (trips < kTrips && Clock::now() - start < kLongest) {
      for (const int end = trips + 100; trips < end; ++trips) {
        table.turn.store(1, std::memory_order_release);
        while (table.turn.load(std::memory_order_acquire) != 0) {
        }
      }
    }
    found = std::chrono::duration<double, std::nano>(Clock::now() - start).count() / trips;
    table.over.store(true, std::memory_order_relaxed);
  });
  asking.join();
  answering.join();
  return found;
}

}  // namespace

double core_distance_ns(int cores) {
  cpu_set_t allowed;
  if (cores < 2 || sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < cores) return 0;
  int first = -1, others = 0;
  double longest = 0;
  for (int core = 0; core < CPU_SETSIZE && others + 1 < cores; ++core) {
    if (!CPU_ISSET(core, &allowed)) continue;
    if (first < 0) {
      first = core;
      continue;
    }
    ++others;
    double least = std::numeric_limits<double>::infinity();
    for (int pass = 0; pass < kPasses; ++pass) least = std::min(least, round_trip_ns(first, core));
    longest = std::max(longest, least);
  }
  return longest;
}
#else
double core_distance_ns(int) { return 0; }
#endif

}  // namespace crisp
