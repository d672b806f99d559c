// The plan: what each tensor becomes and why. Pure: no input or output happens here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/ggml_type.h"
#include "phiq/model.h"
#include "phiq/profile.h"

namespace phiq {

// A --tensor-type rule: checkpoint tensors whose name the pattern finds (PCRE2 search) get `type`.
struct TensorRule {
  std::string pattern;
  std::string type;
};
// "REGEX=TYPE". Throws kUsage.
TensorRule ParseTensorRule(std::string_view text);

struct PlanOptions {
  Format format = Format::kGguf;
  std::string type;                      // "Q4_K_M": the format's own type or recipe name
  std::vector<TensorRule> tensor_rules;  // the last match wins
  bool strict_types = false;             // a shape fallback is kUnsupported instead of a line
};

struct PlanLine {
  std::string name;  // the checkpoint's tensor name; "config:long_factor" for values of config.json
  TensorRole role = TensorRole::kTokenEmbedding;  // says nothing when `source` is nullopt
  std::int32_t layer = -1;
  std::vector<std::uint64_t> shape;  // rows first
  std::optional<std::size_t> source;  // index into Checkpoint::tensors(); nullopt: from config.json
  std::string source_type;            // "BF16"
  GgmlType type = GgmlType::kF32;
  std::uint64_t size_bytes = 0;       // of the encoded tensor, without padding
  std::string reason;                 // why this type
  bool is_fallback = false;           // the wanted type does not fit the shape

  std::string_view role_name() const noexcept;  // RoleName(role), or "rope_factors"
  std::uint64_t n_elements() const noexcept;
  std::uint64_t row_elements() const noexcept;  // last dimension
  std::uint64_t n_rows() const noexcept;        // product of the others; 1 for 1-D
};

struct Plan {
  Format format = Format::kGguf;
  std::string type;             // as in PlanOptions, in its official spelling
  std::vector<PlanLine> lines;  // in the model's order; longrope factors last

  std::uint64_t n_weights() const noexcept;
  std::uint64_t data_bytes() const noexcept;
  double bits_per_weight() const noexcept;
};

// A type name that --type takes.
struct TypeName {
  std::string_view name;
  std::string_view description;  // "4.9 bits, K-quants, the usual choice"
};
std::vector<TypeName> TypeNames(Format format);  // largest first

// The official spelling of a type name ("q4_k" -> "Q4_K_M").
// Throws   kUsage: unknown (with a suggestion). kUnsupported: known, but not written, saying why.
std::string ParseType(Format format, std::string_view name);

// The type that a precision means in a format ("Q4_K_M").
// Throws kUsage: the format lacks the precision (naming those it has).
std::string TypeOfPrecision(Format format, Precision precision);

// Decides the type of every tensor.
//
// `tensors`  Checkpoint::tensors().
// Throws     kUsage: unknown type (with a suggestion), a rule that matches no tensor, a bad pattern.
//            kUnsupported: a type of the format that phiq does not write, saying why;
//            a shape fallback under strict_types.
// Warns      a shape fallback.
Plan MakePlan(const Model& model, std::span<const SourceTensor> tensors, const PlanOptions& options,
              const WarningFn& warn);

inline Plan MakePlan(const Model& model, const Checkpoint& checkpoint, const PlanOptions& options,
                     const WarningFn& warn) {
  return MakePlan(model, checkpoint.tensors(), options, warn);
}

}  // namespace phiq
