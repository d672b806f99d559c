// The metadata is built anew for the type that the file names. A tensor's type is the file's own:
// rules and fallbacks of the run that made it are not known here.
#include "formats/gguf/compare.h"

#include <fmt/format.h>

#include <set>

#include "base/sha256.h"
#include "formats/gguf/expression.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/plan.h"
#include "formats/gguf/tensor_names.h"
#include "phiq/text.h"

namespace phiq::gguf {
namespace {

// Keys that name the model for people; a renamed folder changes them.
bool IsLabel(std::string_view key) {
  return key.starts_with("general.") && key != "general.architecture" &&
         key != "general.file_type" && key != "general.quantization_version";
}

// Keys that phiq adds. (Of others that begin so a bit is flipped.)
bool IsOwn(std::string_view key) {
  return key == "phiq.record" || key == "phiq.source" || key == "phiq.nan_policy" ||
         key == "phiq.overflow_policy" || key == "phiq.method" || key == kReexpressedKey ||
         key.starts_with("phiq.calibration_");
}

// The --type name that stands for general.file_type; F32 when the file does not say.
std::string TypeNameOf(const File& file) {
  const Value* value = Find(file.metadata(), "general.file_type");
  const std::uint32_t* code = value == nullptr ? nullptr : std::get_if<std::uint32_t>(value);
  return code == nullptr ? "F32" : FindFileType(*code).value_or("F32");
}

void CompareMetadata(const Metadata& expected, const File& file,
                     std::vector<std::string>& problems) {
  std::set<std::string_view> known;
  for (const auto& [key, value] : expected) {
    known.insert(key);
    if (IsLabel(key)) continue;
    const Value* found = Find(file.metadata(), key);
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
    if (known.contains(key) || IsLabel(key) || IsOwn(key) || key.starts_with("quantize.imatrix."))
      continue;
    problems.push_back(fmt::format("metadata '{}' has no counterpart in the source", Escape(key)));
  }
}

}  // namespace

std::vector<std::string> FindDifferences(const File& file, const Model& source) {
  const WarningFn silent = [](const Warning&) {};
  PlanOptions options;
  options.type = TypeNameOf(file);
  const std::unique_ptr<Plan> plan = MakePlan(source, options, silent);
  std::vector<std::string> problems;
  CompareMetadata(BuildMetadata(source, *plan, {}, silent), file, problems);
  for (const PlanLine& line : plan->lines) {
    if (line.table && file.FindTensor(TensorName(line)) == nullptr)
      problems.push_back(fmt::format("tensor '{}' is missing", TensorName(line)));
  }
  return problems;
}

}  // namespace phiq::gguf
