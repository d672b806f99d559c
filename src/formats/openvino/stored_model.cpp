// The graph is compared with the one that its config.json gives, so that a model is what the graph
// computes, and no other description of it is believed.
#include "formats/openvino/stored_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "formats/openvino/compare.h"
#include "formats/openvino/model_graph.h"
#include "formats/tokenizer_files.h"
#include "model/rope.h"
#include "phiq/checkpoint.h"
#include "phiq/text.h"

namespace phiq::openvino {
namespace {

// Constants whose values the graph decides, not config.json.
bool IsRotary(std::string_view name) {
  return name == kFrequencies || name == kLongFrequencies || name == kCosineFactor ||
         name == kSineFactor;
}

// The leaves of rt_info: "phiq.type", "runtime_options.KV_CACHE_PRECISION".
void AddInfo(const std::vector<Info>& info, const std::string& above, About& about) {
  for (const Info& item : info) {
    const std::string name = above + Escape(item.name);
    if (item.children.empty()) about.metadata.emplace_back(name, Escape(item.value));
    AddInfo(item.children, name + ".", about);
  }
}

class OpenVinoModel final : public StoredModel {
 public:
  OpenVinoModel(Folder folder, std::string path, const WarningFn& warn)
      : StoredModel(std::move(path)),
        folder_(std::move(folder)),
        files_(LocateCheckpoint(folder_.parent().native(), [](const Warning&) {})) {
    for (const Weight& weight : folder_.weights())
      pieces_.push_back(
          WholePiece(weight, folder_.SizeBytes(weight), folder_.files()[1].path().string()));
    try {
      Understand(warn);
    } catch (const Error& error) {
      refusal_ = error;
    }
  }

  std::string_view kind() const noexcept override { return "openvino"; }
  const ModelConfig& config() const override {
    if (refusal_) throw *refusal_;
    return config_;
  }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  const SideFiles& side_files() const noexcept override { return files_; }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    folder_.ReadRows(folder_.weights()[piece], first_row, n_rows, codec, out);
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_->ReadRotary(n_positions, cosines, sines);
  }

  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return ReadTokenizerBeside(folder_.parent(), config(), warn);
  }

  About Describe(const WarningFn&) const override {
    About about;
    AddInfo(folder_.ir().info, "", about);
    return about;
  }

  Facts facts() const override { return FactsOf(folder_); }
  std::vector<std::string> FindProblems() const override { return folder_.FindProblems(); }
  std::vector<std::string> FindDifferences(const Model& source,
                                           const SideFiles& files) const override {
    if (!IsOurs(folder_)) return {};
    return openvino::FindDifferences(folder_, files, source);
  }

  void CheckUnchanged() const override {
    for (const InputFile& file : folder_.files()) file.CheckUnchanged();
  }

 private:
  // Throws   why it is no model that phiq computes.
  void Understand(const WarningFn& warn) {
    if (!IsOurs(folder_)) {
      throw Unsupported("was not written by phiq").Hint("phiq evaluates its own OpenVINO folders");
    }
    if (const std::vector<std::string> problems = folder_.FindProblems(); !problems.empty())
      throw Bad(problems.front());
    config_ = ReadModelConfig(files_, warn);
    ReadFormula();
    ReadRotaryFacts();
    CheckGraph();
  }

  Error Bad(std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message)).In(folder_.files()[0].path().native());
  }
  Error Unsupported(std::string message) const {
    return Error(ErrorCode::kUnsupported, std::move(message))
        .In(folder_.files()[0].path().native());
  }

  // A number of the graph; nullopt: it has no such constant.
  template <typename T>
  std::optional<T> FindNumber(std::string_view name, ElementType type) const {
    const StoredConst* constant = folder_.FindConstant(name);
    if (constant == nullptr) return std::nullopt;
    return folder_.ReadNumbers<T>(*constant, type, 1)[0];
  }

  void ReadFormula() {
    std::optional<float> epsilon;
    for (const StoredConst& constant : folder_.constants()) {
      if (!constant.name.ends_with(kEpsilonSuffix)) continue;
      const float found = folder_.ReadNumbers<float>(constant, ElementType::kF32, 1)[0];
      if (!(found > 0) || !std::isfinite(found)) {
        throw Bad(fmt::format("layer '{}' is {}, needs a finite number above 0",
                              Escape(constant.name), found));
      }
      if (epsilon && *epsilon != found) {
        throw Unsupported(fmt::format("layer '{}' is {}, the norms before it have {}",
                                      Escape(constant.name), found, *epsilon));
      }
      epsilon = found;
    }
    if (epsilon) config_.rms_norm_eps = *epsilon;
    const auto window = FindNumber<std::int64_t>(kMinusWindow, ElementType::kI64);
    config_.sliding_window = 0;
    if (!window) return;
    if (*window >= 0 || *window <= -std::int64_t{config_.max_position_embeddings}) {
      throw Bad(fmt::format("layer '{}' is {}, needs a number from {} to -1", kMinusWindow, *window,
                            1 - std::int64_t{config_.max_position_embeddings}));
    }
    config_.sliding_window = static_cast<std::uint32_t>(-*window);
  }

  void ReadRotaryFacts() {
    const auto frequencies = [&](std::string_view name) -> std::vector<float> {
      const StoredConst* constant = folder_.FindConstant(name);
      if (constant == nullptr) return {};
      return folder_.ReadNumbers<float>(*constant, ElementType::kF32, config_.rope_dim / 2);
    };
    std::vector<float> short_frequencies = frequencies(kFrequencies);
    std::vector<float> long_frequencies = frequencies(kLongFrequencies);
    if (short_frequencies.empty()) throw Bad(fmt::format("layer '{}' is missing", kFrequencies));
    if (const auto last = FindNumber<std::int64_t>(kLastShortPosition, ElementType::kI64)) {
      if (*last < 0 || *last >= std::int64_t{limits::kPositions}) {
        throw Bad(fmt::format("layer '{}' is {}, allowed are 0 to {}", kLastShortPosition, *last,
                              limits::kPositions - 1));
      }
      config_.original_max_position_embeddings = static_cast<std::uint32_t>(*last + 1);
    }
    if (long_frequencies.empty()) long_frequencies = short_frequencies;
    const float of_cosines = FindNumber<float>(kCosineFactor, ElementType::kF32).value_or(1.0F);
    const float of_sines = FindNumber<float>(kSineFactor, ElementType::kF32).value_or(1.0F);
    if (of_cosines != of_sines || !std::isfinite(of_cosines)) {
      throw Unsupported(
          fmt::format("cosines are multiplied by {}, sines by {}; only one finite "
                      "factor for both is supported",
                      of_cosines, of_sines));
    }
    tables_.emplace(config_, std::move(short_frequencies), std::move(long_frequencies), of_cosines,
                    folder_.files()[0].path().native());
  }

  void CheckGraph() const {
    Plan plan;
    for (const Weight& weight : folder_.weights()) plan.lines.push_back(LineOf(weight));
    for (const WeightInfo& wanted : WeightsOf(config_)) {
      const bool is_there = std::ranges::any_of(
          folder_.weights(), [&](const Weight& weight) { return weight.id == wanted.id; });
      const bool may_miss =
          wanted.id.role == TensorRole::kOutputHead && config_.tie_word_embeddings;
      if (!is_there && !may_miss) throw Bad(fmt::format("{} is missing", wanted.name));
    }
    const std::vector<std::string> problems =
        CompareGraphs(PlaceModel(config_, plan, /*file=*/0), folder_, IsRotary);
    if (problems.empty()) return;
    throw Bad(fmt::format("the graph is not the one that config.json means: {}", problems.front()));
  }

  const Folder folder_;
  const CheckpointFolder files_;  // that it stands in
  std::optional<Error> refusal_;
  ModelConfig config_;
  std::optional<ConfigTables> tables_;  // refers to config_
  std::vector<StoredPiece> pieces_;
};

}  // namespace

std::unique_ptr<StoredModel> MakeStoredModel(Folder folder, std::string path,
                                             const WarningFn& warn) {
  return std::make_unique<OpenVinoModel>(std::move(folder), std::move(path), warn);
}

}  // namespace phiq::openvino
