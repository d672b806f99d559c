// Candidates wait in a heap and are not taken out when a merge beside them makes them stale; each
// is looked up again when its turn comes.
#include "model/bpe_merger.h"

#include <cassert>
#include <limits>
#include <queue>
#include <utility>

namespace phiq {
namespace {

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

// A token of the word, in a list of those that are left.
struct Symbol {
  std::uint32_t id = 0;  // kNone: joined with the one before
  std::uint32_t previous = kNone, next = kNone;
};

struct Candidate {
  std::uint32_t rank = 0;
  std::uint32_t position = 0;  // of the left symbol
  bool operator>(const Candidate& other) const {
    return std::pair(rank, position) > std::pair(other.rank, other.position);
  }
};

constexpr std::uint64_t Key(std::uint32_t left, std::uint32_t right) {
  return std::uint64_t{left} << 32 | right;
}

}  // namespace

BpeMerger::BpeMerger(std::span<const Merge> merges) {
  merges_.reserve(merges.size());
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    merges_.emplace(Key(merge.left, merge.right),
                    Ranked{static_cast<std::uint32_t>(rank), merge.result});
  }
}

const BpeMerger::Ranked* BpeMerger::Find(std::uint32_t left, std::uint32_t right) const {
  const auto found = merges_.find(Key(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BpeMerger::Apply(std::vector<std::uint32_t>& word) const {
  if (word.size() < 2) return;
  assert(word.size() < kNone);
  const auto n = static_cast<std::uint32_t>(word.size());
  std::vector<Symbol> symbols(n);
  std::vector<Candidate> first;
  for (std::uint32_t i = 0; i < n; ++i) {
    symbols[i] = {word[i], i == 0 ? kNone : i - 1, i + 1 == n ? kNone : i + 1};
    if (i + 1 == n) break;
    if (const Ranked* merge = Find(word[i], word[i + 1])) first.push_back({merge->rank, i});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(),
                                                                               std::move(first));
  const auto add = [&](std::uint32_t left) {
    if (left == kNone || symbols[left].next == kNone) return;
    if (const Ranked* merge = Find(symbols[left].id, symbols[symbols[left].next].id))
      queue.push({merge->rank, left});
  };
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.position];
    if (left.id == kNone || left.next == kNone) continue;
    Symbol& right = symbols[left.next];
    const Ranked* merge = Find(left.id, right.id);
    if (merge == nullptr || merge->rank != best.rank) continue;
    left.id = merge->result;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) symbols[left.next].previous = best.position;
    add(left.previous);
    add(best.position);
  }
  word.clear();
  for (std::uint32_t i = 0; i != kNone; i = symbols[i].next) word.push_back(symbols[i].id);
}

}  // namespace phiq
