// Whether a node shares its work out where that pays, by a clock of our own. Prints what each case found; exit 1 if it is
// not what it should be.
#include "sharing.h"

#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

namespace {

using crisp::Sharing;

std::atomic<int64_t> now_ns{0};
int64_t read_clock() { return now_ns; }

bool all_as_expected = true;

void expect(const char* what, bool as_expected) {
  std::printf("%s: %s\n", what, as_expected ? "yes" : "NO");
  all_as_expected = all_as_expected && as_expected;
}

// So many runs of a node that takes so long; how many were shared out.
int64_t run(Sharing* sharing, int64_t runs, int64_t shared_ns, int64_t alone_ns, int64_t work = 1) {
  int64_t shared = 0;
  for (int64_t i = 0; i < runs; ++i) {
    const Sharing::Run run = sharing->begin(work);
    now_ns += run.shared ? shared_ns : alone_ns;
    sharing->end(run);
    shared += run.shared;
  }
  return shared;
}

}  // namespace

int main() {
  constexpr int64_t kTrial = Sharing::kTrial, kRest = Sharing::kPeriod - kTrial;
  Sharing sharing(read_clock);
  expect("half of a trial is shared out", run(&sharing, kTrial, 60, 100) == kTrial / 2);
  expect("what takes 60 of 100 is shared out until the next trial", run(&sharing, kRest, 60, 100) == kRest);
  run(&sharing, kTrial, 300, 100);
  expect("when the other core is far, a trial ends it", run(&sharing, kRest, 300, 100) == 0);
  run(&sharing, kTrial, 60, 100);
  expect("and another begins it again", run(&sharing, kRest, 60, 100) == kRest);
  run(&sharing, kTrial, 95, 100);
  expect("what takes 95 of 100 is not worth the other threads", run(&sharing, kRest, 95, 100) == 0);
  expect("another size is tried at once", run(&sharing, kTrial, 60, 100, 2) == kTrial / 2);
  expect("and decided for itself", run(&sharing, 10, 60, 100, 2) == 10);

  Sharing crowded(read_clock);
  std::vector<std::thread> threads;
  for (int64_t i = 0; i < 8; ++i) {
    threads.emplace_back([&crowded, i] {
      for (int64_t n = 0; n < 2 * Sharing::kPeriod; ++n) crowded.end(crowded.begin(n / 500 % (i / 4 + 1)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  expect("eight threads at once leave it whole", run(&crowded, kTrial, 60, 100, 7) == kTrial / 2);
  return all_as_expected ? 0 : 1;
}
