// Targets of the kernels: every decoder on any bytes, every method on any floats.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include "fuzz/targets.h"
#include "kernels/encoding_testing.h"

namespace phiq::fuzz {
namespace {

// Every encoding, with each method that fills it.
const std::vector<Recipe>& Recipes() {
  static const std::vector<Recipe> recipes = [] {
    std::vector<Recipe> all = IntegerRecipes();
    for (const Recipe& recipe : MlxRecipes()) all.push_back(recipe);
    for (const GgmlTypeInfo& info : GgmlTypes()) all.push_back({info.type, &kGgml});
    const std::size_t n = all.size();
    for (std::size_t i = 0; i < n; ++i) {
      for (const Method* method : {&kSearch, &kImatrix, &kMinMax})
        if (method->fills(all[i].encoding)) all.push_back({all[i].encoding, method});
    }
    return all;
  }();
  return recipes;
}

constexpr std::size_t kHeadBytes = 4;  // which recipe, and how long a row

struct Case {
  const Recipe& recipe;
  std::size_t n;  // weights of the row
  Input rest;
};

Case CaseOf(Input input) {
  std::uint32_t head = 0;
  std::memcpy(&head, input.data(), sizeof head);
  const Recipe& recipe = Recipes()[(head & 0xFFFF) % Recipes().size()];
  return {recipe, 256 * (1 + (head >> 16) % 3), input.subspan(kHeadBytes)};
}

// The bytes again and again.
void Fill(std::span<std::byte> out, Input from) {
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = from.empty() ? std::byte{} : from[i % from.size()];
}

void RunDecode(Input input) {
  if (input.size() < kHeadBytes) return;
  const auto [recipe, n, rest] = CaseOf(input);
  std::vector<Bytes> arrays;
  std::size_t at = 0;
  for (std::size_t i = 0; i < ArrayCount(recipe.encoding); ++i) {
    Fill(arrays.emplace_back(ArrayRowBytes(recipe.encoding, i, n)),
         rest.subspan(std::min(at, rest.size())));
    at += arrays.back().size();
  }
  const std::vector<std::span<const std::byte>> spans(arrays.begin(), arrays.end());
  std::vector<float> x(n);
  RowCodec().Decode(recipe.encoding, spans, x);
  const bool is_finite = !FindNonFinite(recipe.encoding, spans, n).has_value();
  // A finite float32 scale may still be too large for its codes.
  const auto* groups = std::get_if<GroupEncoding>(&recipe.encoding);
  const bool may_overflow =
      groups != nullptr && groups->scale != ScaleType::kF16 && groups->scale != ScaleType::kE4M3;
  if (is_finite && !may_overflow &&
      !std::ranges::all_of(x, [](float w) { return std::isfinite(w); }))
    Fail(EncodingName(recipe.encoding) + ": finite scales decode to what is not finite");
}

void RunQuantize(Input input) {
  if (input.size() < kHeadBytes) return;
  const auto [recipe, n, rest] = CaseOf(input);
  std::vector<float> x(n);
  Fill(std::as_writable_bytes(std::span(x)), rest);
  // What conversions refuse before: not finite, and what kNearest does not take.
  constexpr float kMost = 0x1p126F;
  bool is_usual = true;
  for (float& w : x) {
    if (!(std::abs(w) < kMost)) w = std::signbit(w) ? -1.0F : 1.0F;
    is_usual = is_usual && std::abs(w) < 1e4F;
  }
  const std::vector<float> squares(n, 1.0F);
  const EncodedRow row(recipe.encoding, *recipe.method, x, {.squares = squares});
  const std::vector<float> decoded = row.Decoded();
  if (!is_usual || FindNonFinite(recipe.encoding, row.Spans(), n)) return;
  for (std::size_t i = 0; i < n; ++i)
    if (!std::isfinite(decoded[i]))
      Fail(EncodingName(recipe.encoding) + " by " + std::string(recipe.method->name) +
           ": a usual weight became what is not finite");
  // A search may clip: its error is at most the weight itself.
  const ErrorBound bound = BoundOf(recipe.encoding, n);
  const bool searches = recipe.method == &kSearch || recipe.method == &kImatrix;
  constexpr double kRounding = 1e-6;
  if (!searches && WorstBlock(bound, x, decoded) > bound.block_error + kRounding)
    Fail(EncodingName(recipe.encoding) + " by " + std::string(recipe.method->name) +
         ": an error above its bound");
}

// One for each recipe would be many; the head of the input is mutated with the rest.
std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  std::mt19937 rng(1);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  for (std::size_t i = 0; i < Recipes().size(); ++i) {
    std::string seed(kHeadBytes, '\0');
    seed[0] = static_cast<char>(i & 0xFF);
    seed[1] = static_cast<char>(i >> 8);
    for (std::size_t w = 0; w < 256; ++w) {
      const float x = normal(rng);
      seed.append(reinterpret_cast<const char*>(&x), sizeof x);
    }
    seeds.push_back(std::move(seed));
  }
  return seeds;
}

}  // namespace

std::span<const Target> KernelTargets() {
  static const std::vector<Target> targets = {{"decode", Shape::kBinary, RunDecode, Seeds},
                                              {"quantize", Shape::kBinary, RunQuantize, Seeds}};
  return targets;
}

}  // namespace phiq::fuzz
