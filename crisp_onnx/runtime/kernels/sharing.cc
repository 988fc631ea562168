// The trial: some runs shared out, then as many on one thread, the first of each for the caches.
#include "sharing.h"

#include <chrono>
#include <limits>

namespace crisp {
namespace {

constexpr int64_t kToWarm = 2, kShared = Sharing::kTrial / 2;  // runs
constexpr double kWorthSharing = 0.8;  // of one thread's time: less is not worth the others'

}  // namespace

int64_t Sharing::steady_ns() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

void Sharing::start_trial() {
  shared_ns_ = std::numeric_limits<int64_t>::max();
  alone_ns_ = std::numeric_limits<int64_t>::max();
}

Sharing::Run Sharing::begin(int64_t work) {
  if (work_.exchange(work) != work) {
    runs_ = 0;
    pays_ = true;
  }
  const int64_t run = runs_++ % kPeriod;
  if (run == 0) start_trial();
  if (run == kTrial) {
    pays_ = static_cast<double>(shared_ns_) <= kWorthSharing * static_cast<double>(alone_ns_);
  }
  if (run >= kTrial) return {pays_, false, 0};
  return {run < kShared, run % kShared >= kToWarm, clock_()};
}

void Sharing::end(const Run& run) {
  if (!run.timed) return;
  const int64_t took_ns = clock_() - run.begun_ns;
  std::atomic<int64_t>& least = run.shared ? shared_ns_ : alone_ns_;
  for (int64_t seen = least; took_ns < seen && !least.compare_exchange_weak(seen, took_ns);) {
  }
}

}  // namespace crisp
