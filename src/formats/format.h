// All that the house knows of a format. Each has a folder that defines one Format and a line in
// list.cpp; nobody else names it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/importance.h"
#include "formats/layout.h"
#include "phiq/error.h"
#include "phiq/format.h"
#include "phiq/model.h"
#include "phiq/plan.h"
#include "phiq/profile.h"
#include "stored/stored_model.h"

namespace phiq {

// Something about a weight that a plan must know: it is measured before, and answered with a
// number.
struct Question {
  enum class About : std::uint8_t {
    kInt8RowError,  // the largest mean squared error of a row in INT8_ASYM with float32 scales
  };
  std::size_t tensor = 0;  // index into Model::tensors
  About about = About::kInt8RowError;
};
using Answers = std::vector<float>;  // one a question

// What the runtime that opens a format keeps in memory beside its files.
struct RuntimeMemory {
  std::string_view runtime;  // "llama.cpp"
  // Of keys and values: bits of each, and bits besides for each head of a token (scales).
  std::uint32_t cache_bits = 16, cache_head_bits = 0;
  std::uint32_t cache_step = 1;   // tokens that room is made for at a time
  std::uint32_t cache_fixed = 0;  // tokens that the output says there is room for; 0: as asked
  std::uint32_t n_at_once = 512;  // tokens of a prompt that run side by side
  bool has_scores = false;        // attention's scores of all heads stand in memory
  bool has_all_logits = false;    // of each of those tokens, not of the last one alone
};

struct Format {
  std::string_view name;              // "onnx"
  std::string_view title;             // "ONNX"
  std::string_view file_ending = "";  // see FileEnding
  // Of the file in a folder that people open it by, if it has one.
  std::string_view main_ending = "";
  // Of a format of single files: a file of that name is the model alone, without what else goes
  // into one (Plan::is_bare). "": there is no such file.
  std::string_view bare_ending = "";
  std::span<const Knob> knobs = {};
  std::span<const std::string_view> methods = {};  // besides "reference" and CommonMethods
  // For those who look for one that is not there.
  std::string_view instead_of_encoding_knobs = "";
  // A tensor may be F32 where the others are F16 (--overflow f32).
  bool may_widen = false;
  bool may_stream = false;  // its only file can be written front to back
  // Of outputs that are files: a plan's facts stand as they are, as text, in the first file's head.
  // phiq keeps its record there (convert/record.h), which folders have as a file.
  bool keeps_record = false;
  // The knob that makes several files of an output; "": none.
  std::string_view parts_knob = "";

  std::vector<TypeName> (*types)();
  std::string (*parse_type)(std::string_view name);  // see ParseType
  // The type that each Precision means, in their order; "": the format lacks it.
  std::array<std::string_view, 5> types_of_precisions;
  // Without a precision or type; "": that of int4.
  std::string_view default_type = "";
  // Types that rules may give to matrices side by side, for who chooses them by size and loss.
  // Empty: the format has one type for all.
  std::span<const std::string_view> mixed_types = {};
  // What knobs make of such a type. May be null: nothing. Throws kUsage.
  std::string (*type_with)(std::string_view type, const PlanOptions& options) = nullptr;
  // What its runtimes are called, for those who name one of them as the format.
  std::span<const std::string_view> runtimes = {};
  // What the default name says behind the type: "-cuda". May be null.
  std::string (*name_suffix)(const PlanOptions& options) = nullptr;

  // The weights that the format's runtimes want for this model. May be null: the model's own.
  Expression (*expression)(const ModelConfig& config, const PlanOptions& options) = nullptr;
  // What the plan must know. May be null: nothing. Throws as `plan`.
  std::vector<Question> (*questions)(const Model& model, const PlanOptions& options) = nullptr;
  // The types between which measured losses are to decide, instead of answers, for the tensors that
  // questions are asked about: the smaller first; empty: answers decide. May be null: they do.
  // `has_losses`  a text tells them. Throws kUsage: they are wanted, and there are none.
  std::vector<std::string_view> (*types_by_loss)(const PlanOptions& options,
                                                 bool has_losses) = nullptr;
  // Of an output with that plan, one of this format. May be null: no device runs it as it is.
  RuntimeMemory (*runtime_memory)(const Plan& plan) = nullptr;
  // Decides the type of every tensor. CheckOptions has judged the words of the options.
  //
  // Throws   kUsage: unknown type (with a suggestion), options that contradict each other, a rule
  //          that matches no tensor, a bad pattern. kUnsupported: a type of the format that phiq
  //          does not write or the wanted runtime does not run, saying why; a shape fallback under
  //          strict_types.
  // Warns    a shape fallback.
  std::unique_ptr<Plan> (*plan)(const Model& model, const PlanOptions& options,
                                const Answers& answers, const WarningFn& warn);
  // What the runtime's tokenizer does otherwise than the model's. May be null.
  std::vector<Decision> (*tokenizer_decisions)(const Model& model) = nullptr;
  // Every file, and the place of every array. Decisions about the small files are added to the
  // plan, which is one of this format; its facts are recorded.
  OutputLayout (*lay_out)(const Model& model, const SideFiles& source, Plan& plan,
                          const WarningFn& warn);
  // Of a folder: every name that phiq may write into it, from this source.
  std::vector<std::string> (*owned_files)(const SideFiles& source) = nullptr;

  // By a path's name and what kind of file it is. The first of the list takes whatever file no
  // other knows, so that its reader says what is wrong with it. What cannot be read is not known;
  // that memory runs out is no answer.
  bool (*recognizes)(const std::filesystem::path& path);
  // Headers only.
  std::unique_ptr<StoredModel> (*open)(const std::string& path, const WarningFn& warn);
  // Importance matrices, whose names of weights are one format's. Null: not this one's.
  const ImportanceFiles* importance_files = nullptr;
};

// In the order in which people see them; the first is the default.
std::span<const Format* const> Formats() noexcept;
// The built-in profiles name formats: they stand beside the list.
std::span<const Profile> ListedProfiles();

// "": the default.
// Throws   kUsage: no such format (with a suggestion).
const Format& FindFormat(std::string_view name);

// The format whose file or folder stands there; nullptr: none, or a checkpoint.
const Format* RecognizeFormat(const std::filesystem::path& path);

// Judges method and knobs: each is one that the format has, and its value one of its words.
//
// Throws   kUsage, naming the option and the formats that have it.
void CheckOptions(const Format& format, const PlanOptions& options);

// As the one of names, where knobs have a say.
std::string TypeOfPrecision(const Format& format, Precision precision, const PlanOptions& options);

// parse_type for a word that a user typed: one that is no type of the format is told whose it is.
// `is_chosen`   the user asked for the format too.
std::string ParseTypeWord(const Format& format, bool is_chosen, std::string_view word);

// CheckOptions, then the plan. One of CommonMethods takes the place of the format's own in every
// line that it can fill; embeddings that are only looked up get kSearch.
std::unique_ptr<Plan> PlanTarget(const Model& model, const PlanOptions& options,
                                 const WarningFn& warn, const Answers& answers = {});
std::vector<Question> QuestionsOf(const Model& model, const PlanOptions& options);

// Bits of the numbers that a plan's vectors are stored in, which runtimes compute and cache in.
std::uint32_t BitsOfVectors(const Plan& plan);

// Whether a file of that name is to be the model alone, as Format::bare_ending says.
bool IsBareName(const Format& format, std::string_view name);

// For Format::types.
template <typename Table>
std::vector<TypeName> TypeNamesOf(const Table& table) {
  std::vector<TypeName> names;
  for (const auto& entry : table) names.push_back({entry.name, entry.description});
  return names;
}

// The value of a knob, nullopt where it is not given.
std::optional<std::string> FindKnob(const PlanOptions& options, std::string_view name);
// A whole number. Throws kUsage: "--max-length: 'x' is not a whole number from 1 to 9".
std::optional<std::uint32_t> FindCount(const PlanOptions& options, std::string_view name,
                                       std::uint32_t least, std::uint32_t most);
// The place of the value among `words`; the first where it is not given. CheckOptions has judged
// it.
std::size_t FindWord(const PlanOptions& options, std::string_view name,
                     std::span<const std::string_view> words);
// --group-size: 0 stands for a whole row ("row", or -1 as NNCF's users have it).
std::optional<std::uint32_t> FindGroupSize(const PlanOptions& options);
// --sym, --asym. Throws kUsage: both.
std::optional<bool> FindSymmetric(const PlanOptions& options);

}  // namespace phiq
