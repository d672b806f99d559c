// Buffers that are filled anew each time.
#pragma once

#include <cstddef>
#include <vector>

namespace phiq {

// n elements of no particular value. Unlike resize, never holds an old and a new block at once, and
// never more than the largest n asked for: memory plans count on both.
template <typename T>
void Renew(std::vector<T>& buffer, std::size_t n) {
  if (n > buffer.capacity()) buffer = std::vector<T>();
  buffer.resize(n);
}

}  // namespace phiq
