// What a text says of the vectors that a weight is multiplied with: mean squares of their columns,
// second moments, and some of the vectors themselves, to measure on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/forward.h"
#include "phiq/model.h"
#include "phiq/quantize.h"

namespace phiq::calibrate {

// Inputs wider than this have no moments across the borders of equal blocks, which are multiples of
// kBlockMultiple columns and at most half as wide.
inline constexpr std::size_t kWidestBlock = 8192;
inline constexpr std::size_t kBlockMultiple = 256;

// Columns of each diagonal block of moments of an input: one of all columns where those are at most
// `widest`, else equal ones (the last may be narrower) of at most widest / 2.
// Requires  widest >= 2 * kBlockMultiple
std::vector<std::size_t> BlocksOf(std::size_t n_columns, std::size_t widest);

// Some vectors of an input: what quantized weights are held against.
struct Probe {
  static constexpr std::size_t kTokens = 256;

  engine::Matrix held_back;  // [at most kTokens, n], of text that no statistics have seen
  engine::Matrix seen;       // the same of the text that was summed
  // Of an input that is less what layers before it lost: what each of these vectors lacks, x - x~
  // (correction.h). Without rows: nothing.
  engine::Matrix held_back_lacks = {}, seen_lacks = {};
};

// Sums of squares of an input's columns, over so many tokens.
struct SquareSums {
  std::vector<float> of_columns;
  std::uint64_t n_tokens = 0;
};

// Sums over the tokens of a text, in the order of the text: the same bits for any number of threads
// and on every instruction set.
class InputStatistics {
 public:
  struct Wanted {
    Needs needs = Needs::kNothing;
    std::size_t widest_block = kWidestBlock;
    std::size_t n_tokens = 0, n_held_back = 0;  // that will be added
    bool lacks = false;  // each vector comes with what it lacks, of which moments are wanted, too
  };
  InputStatistics(WeightId weight, std::size_t n_columns, const Wanted& wanted);

  // Tokens that follow those added so far. The moments' bits depend on where calls begin and end,
  // unless those are multiples of 256 tokens.
  // Shapes    x, lacks: [tokens, n_columns]
  void Add(const engine::Runner& runner, const engine::Matrix& x,
           const engine::Matrix* lacks = nullptr);
  void AddHeldBack(const engine::Matrix& x, const engine::Matrix* lacks = nullptr);
  // Of all tokens that were added only these reach the input.
  void CountReached(SquareSums sums) { reached_ = std::move(sums); }
  // Sums become means.
  // Throws   kNumeric: a mean square is not finite, or above 1e30.
  void Finish();

  WeightId weight() const noexcept { return weight_; }
  const std::vector<float>& squares() const noexcept { return squares_; }  // [n_columns]
  // So far.
  SquareSums Sums() const { return {{square_sums_.begin(), square_sums_.end()}, n_added_}; }
  // Of the tokens that reach the input.
  const SquareSums& reached() const noexcept { return reached_; }
  struct Block {
    std::size_t first_column = 0;
    engine::Matrix h;  // [n, n], on and above the diagonal
    engine::Matrix d;  // [n, n]: mean of lacks transposed(x), where that is wanted
  };
  std::vector<Block>& blocks() noexcept { return blocks_; }
  const Probe& probe() const noexcept { return probe_; }

 private:
  WeightId weight_;
  Wanted wanted_;
  std::size_t n_columns_;
  std::size_t n_added_ = 0, n_held_back_added_ = 0;
  std::vector<double> square_sums_;
  SquareSums reached_;
  std::vector<float> squares_;
  std::vector<Block> blocks_;
  Probe probe_;
};

}  // namespace phiq::calibrate
