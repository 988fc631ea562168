// What a fuzzing program is made of: random numbers, memory that ends at a page which cannot be touched, and threads of a
// host. Internal linkage, for one program each.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace {

constexpr int kThreads = 8;

std::mt19937_64 rng;

int64_t between(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1));
}
bool one_in(int64_t n) { return between(1, n) == 1; }
int64_t one_of(std::initializer_list<int64_t> values) { return values.begin()[between(0, values.size() - 1)]; }

// Memory whose last number, of `each` bytes, is right before a page that faults, and that begins `odd` bytes behind an
// aligned address.
class Guarded {
 public:
  explicit Guarded(int64_t bytes, int64_t odd = 0, int64_t each = 4) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), used = static_cast<size_t>((bytes + odd + 63) / 64 * 64);
    mapped_ = (used + page - 1) / page * page + page;
    base_ = static_cast<char*>(mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + mapped_ - page, page, PROT_NONE)) std::abort();
    const size_t end_gap = odd ? 0 : static_cast<size_t>(-bytes % each + each) % static_cast<size_t>(each);
    data_ = base_ + mapped_ - page - end_gap - static_cast<size_t>(bytes);
    if (odd) data_ -= (4 - odd + reinterpret_cast<uintptr_t>(data_)) % 4;
  }
  ~Guarded() { munmap(base_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  char* data() const { return data_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  char *base_, *data_;
  size_t mapped_;
};

// Threads of a host that take part in a call.
class Pool {
 public:
  Pool() {
    for (int i = 1; i < kThreads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    begin_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  static void run(void* pool, size_t total, void (*fn)(void*, size_t), void* user) {
    Pool& self = *static_cast<Pool*>(pool);
    {
      const std::lock_guard<std::mutex> lock(self.mutex_);
      self.fn_ = fn, self.user_ = user, self.total_ = total, self.next_ = 0, self.busy_ = kThreads - 1, ++self.call_;
    }
    self.begin_.notify_all();
    self.take_parts();
    std::unique_lock<std::mutex> lock(self.mutex_);
    self.end_.wait(lock, [&] { return self.busy_ == 0; });
  }

 private:
  void take_parts() {
    for (size_t i = next_++; i < total_; i = next_++) fn_(user_, i);
  }
  void work() {
    for (uint64_t seen = 0;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        begin_.wait(lock, [&] { return stop_ || call_ != seen; });
        if (stop_) return;
        seen = call_;
      }
      take_parts();
      const std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) end_.notify_all();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable begin_, end_;
  void (*fn_)(void*, size_t) = nullptr;
  void* user_ = nullptr;
  size_t total_ = 0;
  std::atomic<size_t> next_{0};
  int busy_ = 0;
  uint64_t call_ = 0;
  bool stop_ = false;
};

void run_here(void*, size_t total, void (*fn)(void*, size_t), void* user) {
  for (size_t i = 0; i < total; ++i) fn(user, i);
}

}  // namespace
