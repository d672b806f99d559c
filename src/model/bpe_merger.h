// Byte-pair encoding of one word.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "phiq/tokenizer.h"

namespace phiq {

// Joins neighbouring tokens by a vocabulary's merges: the merge of best rank first, the leftmost
// place first among equals.
class BpeMerger {
 public:
  // `merges` in order of priority; of two with the same parts the first counts.
  explicit BpeMerger(std::span<const Merge> merges);

  // Replaces the tokens of a word by what the merges make of them.
  //
  // Cost      O(n log n) time for n tokens and at most 36 bytes of memory for each of them: a
  //           megabyte without a space is an ordinary word.
  // Requires  word.size() < 2^32 - 1.
  // Threads   safe.
  void Apply(std::vector<std::uint32_t>& word) const;

 private:
  struct Ranked {
    std::uint32_t rank = 0, result = 0;
  };
  const Ranked* Find(std::uint32_t left, std::uint32_t right) const;

  std::unordered_map<std::uint64_t, Ranked> merges_;  // by both ids
};

}  // namespace phiq
