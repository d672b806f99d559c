// `phiq verify` of a GGUF file.
#include <fmt/format.h>

#include <set>
#include <utility>

#include "base/sha256.h"
#include "convert/compare_weights.h"
#include "convert/open_model.h"
#include "convert/verify_formats.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/reader.h"
#include "formats/gguf/tensor_names.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// Keys that name the model for people; a renamed folder changes them.
bool IsLabel(std::string_view key) {
  return key.starts_with("general.") && key != "general.architecture" &&
         key != "general.file_type" && key != "general.quantization_version";
}

// The --type name that stands for general.file_type; F32 when the file does not say.
std::string TypeNameOf(const gguf::File& file) {
  const gguf::Value* value = gguf::Find(file.metadata(), "general.file_type");
  const std::uint32_t* code = value == nullptr ? nullptr : std::get_if<std::uint32_t>(value);
  return code == nullptr ? "F32" : gguf::FindFileType(*code).value_or("F32");
}

void CompareMetadata(const gguf::Metadata& expected, const gguf::File& file,
                     std::vector<std::string>& problems) {
  std::set<std::string_view> known;
  for (const auto& [key, value] : expected) {
    known.insert(key);
    if (IsLabel(key)) continue;
    const gguf::Value* found = gguf::Find(file.metadata(), key);
    if (found == nullptr) {
      problems.push_back(fmt::format("metadata '{}' is missing", key));
    } else if (*found == value) {
      continue;
    } else if (key == "tokenizer.chat_template" && std::holds_alternative<std::string>(*found)) {
      problems.push_back(fmt::format(
          "the chat template differs from the source's: SHA-256 {} here, {} there",
          Sha256Hex(std::get<std::string>(*found)), Sha256Hex(std::get<std::string>(value))));
    } else {
      problems.push_back(fmt::format("metadata '{}' differs from what the source gives", key));
    }
  }
  for (const auto& [key, value] : file.metadata()) {
    if (known.contains(key) || IsLabel(key) || key.starts_with("phiq.")) continue;
    problems.push_back(fmt::format("metadata '{}' has no counterpart in the source", Escape(key)));
  }
}

}  // namespace

Verification VerifyGguf(const VerifyOptions& options, unsigned threads, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const gguf::File file = gguf::File::Open(options.output, warn);
  const SourceModel source =
      OpenSourceModel(options.model, {options.ignore_extra, options.adapters}, warn);
  PlanOptions plan_options;
  plan_options.type = TypeNameOf(file);
  // A tensor's type is the file's own: rules and fallbacks of the run that made it are not known
  // here.
  const Plan plan = MakePlan(source.model, plan_options, [](const Warning&) {});

  Verification result;
  result.notes = NotesOf(gguf::TokenizerDecisions(source.model));
  CompareMetadata(gguf::BuildMetadata(source.model, plan, {}, [](const Warning&) {}), file,
                  result.problems);
  std::vector<StoredWeight> weights;
  std::vector<const gguf::Tensor*> tensors;
  std::set<std::string> expected_names;
  for (const PlanLine& line : plan.lines) {
    const std::string name = gguf::TensorName(line);
    expected_names.insert(name);
    const gguf::Tensor* tensor = file.FindTensor(name);
    if (tensor == nullptr) {
      result.problems.push_back(fmt::format("tensor '{}' is missing", name));
    } else if (tensor->shape != line.shape) {
      result.problems.push_back(
          fmt::format("tensor '{}' has another shape than {}", name, line.name));
    } else {
      weights.push_back({name, line});
      weights.back().line.encoding = tensor->type;
      tensors.push_back(tensor);
    }
  }
  for (const gguf::Tensor& tensor : file.tensors()) {
    if (expected_names.contains(tensor.name)) continue;
    result.problems.push_back(
        fmt::format("tensor '{}' has no counterpart in the source", Escape(tensor.name)));
  }
  const auto read_rows = [&](std::size_t index, std::uint64_t first_row, std::uint64_t n_rows,
                             RowCodec& codec, std::span<float> out) {
    file.ReadRows(*tensors[index], first_row, n_rows, codec, out);
  };
  const bool nan_was_zeroed = gguf::Find(file.metadata(), "phiq.nan_policy") != nullptr;
  const bool was_clamped = gguf::Find(file.metadata(), "phiq.overflow_policy") != nullptr;
  CompareWeights(source, weights, read_rows, {nan_was_zeroed, was_clamped, threads}, hooks, result);
  return result;
}

}  // namespace phiq
