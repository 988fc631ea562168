// How far the machine's cores stand apart.
#pragma once

namespace crisp {

// ns in which a cache line goes from the first core that this thread may use to another and back, the longest of such
// ways to the next `cores` - 1: about 50 where they share a cache, several hundred where they do not. 0 where it may
// not use so many, or the system does not tell.
double core_distance_ns(int cores);

}  // namespace crisp
