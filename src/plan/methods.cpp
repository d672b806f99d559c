// Formats know nothing of these methods: they plan for their own tool, and lines are changed
// afterwards. Sizes stay as they are.
#include "plan/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "model/weights.h"

namespace phiq {
namespace {

constexpr std::array<const Method*, 3> kMethods = {&kSearch, &kImatrix, &kFeedback};

}  // namespace

std::span<const std::string_view> CommonMethods() noexcept {
  static const std::array<std::string_view, kMethods.size()> names = [] {
    std::array<std::string_view, kMethods.size()> list;
    std::ranges::transform(kMethods, list.begin(), &Method::name);
    return list;
  }();
  return names;
}

const Method* FindCommonMethod(std::string_view name) noexcept {
  const auto* found = std::ranges::find(kMethods, name, &Method::name);
  return found == kMethods.end() ? nullptr : *found;
}

void UseMethod(const Method& method, Plan& plan) {
  const bool has_head = std::ranges::any_of(plan.lines, [](const PlanLine& line) {
    return !line.table && line.role == TensorRole::kOutputHead;
  });
  std::size_t n_used = 0, n_searched = 0, n_left = 0;
  for (PlanLine& line : plan.lines) {
    if (line.table || StaysFloat(line.role)) continue;
    if (!method.fills(line.encoding)) {
      ++n_left;
      continue;
    }
    const bool is_looked_up = line.role == TensorRole::kTokenEmbedding && has_head;
    line.reference = line.method;
    line.method = is_looked_up ? &kSearch : &method;
    ++(line.method == &method ? n_used : n_searched);
  }
  std::string reason = fmt::format("chooses the codes of {} matrices", n_used);
  if (n_searched > 0) reason += "; an embedding is looked up, not multiplied: search";
  if (n_left > 0) reason += fmt::format("; {} are floats, which have no scale to choose", n_left);
  plan.decisions.push_back({"method", std::string(method.name), std::move(reason)});
  // Verify holds such codes to other bounds.
  if (n_used + n_searched > 0) plan.facts.emplace_back("phiq.method", method.name);
}

}  // namespace phiq
