// How threads divide the work items of one call. A thread begins at a place of its own, the same one in every layer, so
// that most of what it reads is what it wrote itself in the layer before: from another core's cache that would take
// longer to fetch than to compute on.
#pragma once

#include <atomic>
#include <cstdint>

namespace crisp {

struct Range {
  int64_t first, end;
};

inline Range share(int64_t total, int64_t parts, int64_t part) {
  return {total * part / parts, total * (part + 1) / parts};
}

class Claims {
 public:
  // `items_per_panel` neighbours share a panel. A thread enters a panel that another has begun only where at least
  // `worth_entering` of its items are left.
  Claims(int64_t items, int64_t items_per_panel, int64_t worth_entering);

  // Claims that cover all items, one or more each: at most one word's bits.
  int64_t count() const { return count_; }

  // The calling thread's place in this call: the one it had before, if that is free and among the first `places`, else
  // the first free one. Negative when the thread has been here already, and when all places are taken.
  int64_t take_place(int64_t places);

  // Items that nobody has claimed, for a thread that works on `panel` (-1: on none yet): of that panel if there are
  // any, else the nearest after `place`. Empty when there is nothing left for it.
  Range next(int64_t place, int64_t panel);

 private:
  bool is_free(int64_t claim) const;
  bool may_enter(int64_t panel) const;

  const int64_t items_, items_per_panel_, worth_entering_, count_;
  const uint64_t call_;
  std::atomic<uint64_t> places_{0}, claimed_{0};  // a bit each
};

}  // namespace crisp
