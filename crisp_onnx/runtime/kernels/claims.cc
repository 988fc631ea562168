// Places and claims, each a bit of a word that threads set first come, first served.
#include "claims.h"

#include <algorithm>
#include <bitset>
#include <thread>

namespace crisp {
namespace {

constexpr int64_t kBits = 64;

std::atomic<uint64_t> calls{0};

uint64_t bit(int64_t i) { return uint64_t{1} << i; }

bool set_first(std::atomic<uint64_t>* word, int64_t i) { return !(word->fetch_or(bit(i)) & bit(i)); }

// Where a place begins, in parts of kBits: 0, 1/2, 1/4, 3/4, 1/8 ... (van der Corput), far apart for any number of
// threads.
int64_t beginning(int64_t place) {
  int64_t reversed = 0;
  for (int64_t part = kBits / 2; part > 0; part /= 2, place /= 2) reversed += place % 2 * part;
  return reversed;
}

}  // namespace

Claims::Claims(int64_t items, int64_t items_per_panel, int64_t worth_entering)
    : items_(items),
      items_per_panel_(items_per_panel),
      worth_entering_(worth_entering),
      count_(std::min(items, kBits)),
      call_(++calls) {}

int64_t Claims::take_place(int64_t places) {
  struct LastCall {
    uint64_t call = 0;
    int64_t place = 0;
  };
  thread_local LastCall last;
  if (last.call == call_) return -1;
  last.call = call_;
  const bool admitted = last.place < places;
  if (admitted && set_first(&places_, last.place)) return last.place;
  // A layer of few places is no reason to forget one's own; a place that only a crowd needed is.
  static const int64_t cores = std::max<int64_t>(std::thread::hardware_concurrency(), 1);
  const bool keeps_its_own = !admitted && last.place < cores;
  for (int64_t place = 0; place < kBits; ++place) {
    if (!set_first(&places_, place)) continue;
    if (!keeps_its_own) last.place = place;
    return place;
  }
  return -1;
}

// A thread leaves a panel only when nothing of it is left unclaimed: whoever began one finishes it, and what others may
// not enter is done all the same.
Range Claims::next(int64_t place, int64_t panel) {
  const bool by_item = count_ == items_;
  const int64_t first = beginning(place) * count_ / kBits;
  for (const bool at_home : {true, false}) {
    if (at_home && (!by_item || panel < 0)) continue;
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t claim = (first + i) % count_, its_panel = claim / items_per_panel_;
      const bool allowed = at_home ? its_panel == panel : !by_item || may_enter(its_panel);
      if (allowed && is_free(claim) && set_first(&claimed_, claim)) return share(items_, count_, claim);
    }
  }
  return {0, 0};
}

bool Claims::is_free(int64_t claim) const { return !(claimed_.load(std::memory_order_relaxed) & bit(claim)); }

// An untouched panel, or one with enough left to be worth packing again.
bool Claims::may_enter(int64_t panel) const {
  const uint64_t all = ~uint64_t{0} >> (kBits - items_per_panel_) << panel * items_per_panel_;
  const int64_t left = static_cast<int64_t>(std::bitset<kBits>(all & ~claimed_.load()).count());
  return left == items_per_panel_ || left >= worth_entering_;
}

}  // namespace crisp
