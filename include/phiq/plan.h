// The plan: what each tensor becomes and why. Pure: no input or output happens here.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/encoding.h"
#include "phiq/model.h"
#include "phiq/quantize.h"

namespace phiq {

// A --tensor-type rule: checkpoint tensors whose name the pattern finds (PCRE2 search) get `type`.
struct TensorRule {
  std::string pattern;
  std::string type;
  std::string reason = {};  // what a line of the plan says; "": the rule itself
};
// "REGEX=TYPE". Throws kUsage.
TensorRule ParseTensorRule(std::string_view text);

// Methods that every format has: "search", "imatrix", "feedback".
std::span<const std::string_view> CommonMethods() noexcept;

struct PlanOptions {
  std::string format;                // of FormatNames(); "": the first of them
  std::string type;                  // "Q4_K_M": the format's own type or recipe name
  std::string method = "reference";  // CommonMethods and MethodsOf(format) have the others
  // The user asked for it: `reference` is then the format's own tool to the byte, where phiq does
  // better otherwise.
  bool is_method_chosen = false;
  // Codes are chosen by an importance matrix: some types are then others, where the format's own
  // tool has it so. Set by who knows the method.
  bool with_importance = false;
  // Options that the format has (KnobsOf), as words: {"group-size", "64"}; of switches "".
  std::map<std::string, std::string> knobs;
  std::vector<TensorRule> tensor_rules;  // the last match wins
  bool strict_types = false;             // a shape fallback is kUnsupported instead of a line
};

struct PlanLine {
  std::string name;  // the checkpoint's tensor name; "config:long_factor" for values of config.json
  // Says nothing when `table` is set. A tied model's head is read from its embedding.
  TensorRole role = TensorRole::kTokenEmbedding;
  std::int32_t layer = -1;
  TensorPart part = TensorPart::kWhole;  // what of the tensor the line holds
  std::vector<std::uint64_t> shape;      // of the part; rows first
  std::optional<ConfigTable> table;      // where the values come from instead of a weight
  std::uint64_t first_row = 0;           // of the part, in the model's weight
  std::string source_type;               // "BF16"
  Encoding encoding = GgmlType::kF32;
  const Method* method = &kGgml;  // that chooses the codes, where the line is to be written
  // Where that is one of CommonMethods: what the format's own tool does, to be held against.
  const Method* reference = nullptr;
  std::uint64_t size_bytes = 0;  // of the encoded tensor, without padding
  std::string reason;            // why this encoding
  bool is_fallback = false;      // the wanted type does not fit the shape

  std::string_view role_name() const noexcept;  // RoleName(role), "rope_factors", "rope_table"
  std::string display_name() const;  // the name, and the part: "...gate_up_proj.weight[gate]"
  std::uint64_t n_elements() const noexcept;
  std::uint64_t row_elements() const noexcept;  // last dimension
  std::uint64_t n_rows() const noexcept;        // product of the others; 1 for 1-D
};

// Something decided that is no tensor's encoding: "opset", "21", "the oldest that holds ...".
struct Decision {
  std::string subject, value, reason;
};

// What is decided of an output. What only one format decides is in the type that derives from this.
struct Plan {
  virtual ~Plan() = default;

  std::string format;           // as in PlanOptions
  std::string type;             // as in PlanOptions, in its official spelling
  bool is_bare = false;         // see Format::bare_ending
  std::vector<PlanLine> lines;  // in the model's order; tables last
  std::vector<Decision> decisions;
  Facts facts;
  std::string needs;  // what runs the output: "onnxruntime 1.24 or newer"; empty: nothing to say

  std::uint64_t n_weights() const noexcept;  // of the tensors; tables do not count
  std::uint64_t data_bytes() const noexcept;
  double bits_per_weight() const noexcept;  // of the tensors; tables do not count
};

}  // namespace phiq
