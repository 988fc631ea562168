// Whether a node shares its work out among the session's threads: both ways are timed.
#pragma once

#include <atomic>
#include <cstdint>

namespace crisp {

// What threads gain depends on how long a line of memory takes from core to core and on who else runs there, which no
// constant knows. So a node's first runs, and a few of every `kPeriod`, go both ways: all nodes of a session in the
// same runs, because what one thread wrote the next node's threads read. Answers do not depend on it. One node may run
// on several threads at once.
class Sharing {
 public:
  static constexpr int64_t kPeriod = 2048, kTrial = 12;  // runs

  struct Run {
    bool shared;
    bool timed;
    int64_t begun_ns;
  };

  using Clock = int64_t (*)();  // nanoseconds from anywhere

  explicit Sharing(Clock clock = steady_ns) : clock_(clock) {}

  // `work`: what tells runs of one size from those of another; with another size the trial begins anew.
  Run begin(int64_t work);
  void end(const Run& run);

 private:
  static int64_t steady_ns();
  void start_trial();

  const Clock clock_;
  std::atomic<int64_t> work_{-1}, runs_{0};
  std::atomic<int64_t> shared_ns_, alone_ns_;  // the least of this trial
  std::atomic<bool> pays_{true};
};

}  // namespace crisp
