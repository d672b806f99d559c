// A StoredModel over a StoredModel: the weights are the other's, the configuration is the model's
// and not what the runtime makes of it, and the small files are those that a checkpoint has.
#include "stored/restored_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "model/config_text.h"
#include "model/float_types.h"
#include "model/rope.h"
#include "model/side_file.h"
#include "phiq/text.h"
#include "stored/expression.h"

namespace phiq {
namespace {

constexpr std::string_view kConfigJson = "config.json";
constexpr std::string_view kGeneration = "generation_config.json";

// config.json of its own; all else from `beside`, or from the model where that is not there.
class RestoredFiles final : public SideFiles {
 public:
  // `model` must outlive this.
  RestoredFiles(const StoredModel& model, std::optional<CheckpointFolder> beside)
      : path_(model.path()), own_(model.side_files()), beside_(std::move(beside)) {}

  // `origin`: what messages call it.
  void SetConfig(std::string text, std::filesystem::path origin) {
    config_ = std::move(text);
    config_path_ = std::move(origin);
  }
  const std::optional<CheckpointFolder>& beside() const noexcept { return beside_; }

  std::filesystem::path PathOf(std::string_view name) const override {
    if (name == kConfigJson && config_) return config_path_;
    if (beside_ && name != kConfigJson) return beside_->PathOf(name);
    return own_.Names().empty() ? path_ / name : own_.PathOf(name);
  }
  std::optional<std::string> ReadFile(std::string_view name,
                                      std::uint64_t max_bytes) const override {
    if (name == kConfigJson && config_) return config_;
    return HasBeside(name) ? beside_->ReadFile(name, max_bytes) : own_.ReadFile(name, max_bytes);
  }
  std::vector<std::string> Names() const override {
    return beside_ ? beside_->Names() : own_.Names();
  }
  std::uint64_t SizeBytes(std::string_view name) const noexcept override {
    return HasBeside(name) ? beside_->SizeBytes(name) : own_.SizeBytes(name);
  }

 private:
  // Files of two tokenizers are not mixed. How text is generated is the model's own matter.
  bool HasBeside(std::string_view name) const {
    if (!beside_ || name == kConfigJson) return false;
    return name != kGeneration || beside_->Has(name);
  }

  const std::filesystem::path path_;
  const SideFiles& own_;
  const std::optional<CheckpointFolder> beside_;
  std::optional<std::string> config_;
  std::filesystem::path config_path_;
};

// The float type that all matrices have, if they have one.
std::optional<DType> CommonType(const StoredModel& model) {
  std::optional<FloatType> common;
  for (const StoredPiece& piece : model.pieces()) {
    if (piece.holds != Holds::kWeight || StaysFloat(piece.role)) continue;
    const auto* const type = std::get_if<GgmlType>(&piece.encoding);
    const std::optional<FloatType> floats = type == nullptr ? std::nullopt : FloatTypeOf(*type);
    if (!floats || (common && common != floats)) return std::nullopt;
    common = floats;
  }
  return common ? std::optional(DTypeOf(*common)) : std::nullopt;
}

// The first size in which a configuration is not that of the weights; "": none.
std::string DifferentSize(const ModelConfig& config, const ModelConfig& weights) {
  const auto differs = [](std::string_view what, auto found, auto wanted) {
    return found == wanted ? ""
                           : fmt::format("'{}' is {}, the weights are of {}", what, found, wanted);
  };
  for (const std::string& difference :
       {differs("architecture", config.architecture, weights.architecture),
        differs("vocab_size", config.vocab_size, weights.vocab_size),
        differs("hidden_size", config.hidden_size, weights.hidden_size),
        differs("intermediate_size", config.intermediate_size, weights.intermediate_size),
        differs("num_hidden_layers", config.n_layers, weights.n_layers),
        differs("num_attention_heads", config.n_heads, weights.n_heads),
        differs("num_key_value_heads", config.n_kv_heads, weights.n_kv_heads),
        differs("num_local_experts", config.n_experts, weights.n_experts),
        differs("rms_norm_eps", config.rms_norm_eps, weights.rms_norm_eps)})
    if (!difference.empty()) return difference;
  return "";
}

// Whether the file rotates as the configuration has it, in texts within the original length and
// beyond it.
bool RotatesAlike(const ModelConfig& config, const StoredModel& model) {
  // Half a last place of bfloat16 below 2, the coarsest type that tables come in.
  constexpr float kTolerance = 1.0F / 256;
  constexpr std::uint64_t kMostPositions = 1U << 14U;
  const ModelConfig& stored = model.config();
  if (config.rope_dim != stored.rope_dim) return false;
  const ConfigTables tables(config);
  const std::uint64_t n_original = config.original_max_position_embeddings;
  const std::uint64_t n_positions =
      std::min(config.max_position_embeddings, stored.max_position_embeddings);
  for (const std::uint64_t n : {std::min(n_original, n_positions), n_original + 1}) {
    if (n > n_positions || n > kMostPositions) continue;
    const std::size_t n_values = n * (config.rope_dim / 2);
    std::array<std::vector<float>, 2> wanted, found;
    for (auto* values : {&wanted, &found})
      for (std::vector<float>& of : *values) of.resize(n_values);
    tables.ReadRotary(n, wanted[0], wanted[1]);
    model.ReadRotary(n, found[0], found[1]);
    for (std::size_t t = 0; t < wanted.size(); ++t) {
      const auto is_near = [](float a, float b) { return std::abs(a - b) <= kTolerance; };
      if (!std::ranges::equal(wanted[t], found[t], is_near)) return false;
    }
  }
  return true;
}

class RestoredModel final : public StoredModel {
 public:
  RestoredModel(std::unique_ptr<StoredModel> base, std::optional<CheckpointFolder> beside,
                const WarningFn& warn)
      : StoredModel(base->path()),
        base_(std::move(base)),
        files_(*base_, std::move(beside)),
        config_(FindConfig(warn)),
        tables_(config_) {
    CheckTokenizer(warn);
  }

  std::string_view kind() const noexcept override { return base_->kind(); }
  const ModelConfig& config() const override { return config_; }
  std::span<const StoredPiece> pieces() const noexcept override { return base_->pieces(); }
  std::string name() const override {
    std::string name = base_->name();
    if (!name.empty()) return name;
    const std::filesystem::path path = std::filesystem::path(base_->path()).lexically_normal();
    return (path.has_filename() ? path : path.parent_path()).stem().string();
  }
  std::string repository_id() const override { return base_->repository_id(); }
  const SideFiles& side_files() const noexcept override { return files_; }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    base_->ReadRows(piece, first_row, n_rows, codec, out);
  }
  std::uint64_t WorkBytes(std::size_t piece, std::uint64_t n_rows) const noexcept override {
    return base_->WorkBytes(piece, n_rows);
  }
  bool HasRawRows(std::size_t piece) const noexcept override { return base_->HasRawRows(piece); }
  void ReadRawRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                   std::span<std::byte> out) const override {
    base_->ReadRawRows(piece, first_row, n_rows, out);
  }
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_.ReadRotary(n_positions, cosines, sines);
  }
  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    if (!files_.beside()) return base_->ReadTokenizer(warn);
    return phiq::ReadTokenizer(files_, config_.vocab_size, config_.bos_token_id,
                               config_.eos_token_id, config_.pad_token_id, warn);
  }
  void CheckUnchanged() const override { base_->CheckUnchanged(); }

 private:
  // Reads config.json, which is then as a checkpoint has it.
  ModelConfig ReadConfig(std::string text, const std::filesystem::path& origin,
                         const WarningFn& warn) {
    files_.SetConfig(std::move(text), origin);
    ModelConfig config = ReadModelConfig(files_, warn, QuantizedWeights::kAllow);
    if (std::optional<std::string> own = OwnConfigText(files_, config))
      files_.SetConfig(*std::move(own), origin);
    const std::string difference = DifferentSize(config, base_->config());
    if (difference.empty()) return config;
    throw Error(ErrorCode::kBadData, difference).In(origin.string());
  }

  ModelConfig FindConfig(const WarningFn& warn) {
    const auto read = [](const SideFiles& files) {
      return files.ReadFile(kConfigJson, limits::kConfigBytes);
    };
    if (std::optional<std::string> own = read(base_->side_files()))
      return ReadConfig(*std::move(own), files_.PathOf(kConfigJson), warn);
    ModelConfig told = base_->config();
    told.torch_dtype = CommonType(*base_);
    if (RotatesAlike(told, *base_))
      return ReadConfig(MakeConfigText(told), files_.PathOf(kConfigJson), warn);
    const std::optional<CheckpointFolder>& beside = files_.beside();
    std::optional<std::string> theirs = beside ? read(*beside) : std::nullopt;
    if (!theirs) {
      throw Error(ErrorCode::kInput,
                  "has no config.json, and rotary tables without the numbers that they come from")
          .In(path())
          .Hint("--tokenizer FOLDER: one of the model's, with its config.json beside the "
                "tokenizer");
    }
    ModelConfig config = ReadConfig(*std::move(theirs), beside->PathOf(kConfigJson), warn);
    if (RotatesAlike(config, *base_)) return config;
    throw Error(ErrorCode::kBadData,
                fmt::format("is of another model than {}: positions are rotated otherwise",
                            Escape(path())))
        .In(beside->PathOf(kConfigJson).string());
  }

  // Ids mean the same tokens in both tokenizers, as far as both have them.
  void CheckTokenizer(const WarningFn& warn) const {
    if (!files_.beside()) return;
    Tokenizer own;
    try {
      own = base_->ReadTokenizer([](const Warning&) {});
    } catch (const Error&) {
      return;  // the file has none that could be compared
    }
    const Tokenizer given = ReadTokenizer(warn);
    const auto text_of = [](const Tokenizer& tokenizer, std::size_t id) -> std::string {
      if (id < tokenizer.vocab.size() && !tokenizer.vocab[id].empty()) return tokenizer.vocab[id];
      return id < tokenizer.pieces.size() && tokenizer.pieces[id].type == PieceType::kNormal
                 ? tokenizer.pieces[id].text
                 : "";
    };
    const std::size_t n = std::max(own.vocab.size(), own.pieces.size());
    for (std::size_t id = 0; id < n; ++id) {
      const std::string mine = text_of(own, id), theirs = text_of(given, id);
      if (mine.empty() || theirs.empty() || mine == theirs) continue;
      throw Error(ErrorCode::kBadData,
                  fmt::format("is the tokenizer of another model: token {} is '{}', in {} '{}'", id,
                              Escape(theirs), Escape(path()), Escape(mine)))
          .In(files_.beside()->path().string());
    }
  }

  const std::unique_ptr<StoredModel> base_;
  RestoredFiles files_;  // refers to base_
  const ModelConfig config_;
  const ConfigTables tables_;  // refers to config_
};

}  // namespace

std::unique_ptr<StoredModel> Restore(std::unique_ptr<StoredModel> model,
                                     std::optional<CheckpointFolder> beside,
                                     const WarningFn& warn) {
  model->config();  // else why it is none that phiq computes
  const std::vector<std::string> of_loaders = model->FindLoaderProblems();
  for (const std::string& problem : model->FindProblems()) {
    if (std::ranges::find(of_loaders, problem) == of_loaders.end())
      throw Error(ErrorCode::kBadData, problem).In(model->path());
    Warn(warn, model->path(), problem);
  }
  const Expression had = model->expression();
  // Powers of two, so that nothing is lost. Means of zero and heads of zeros change nothing in the
  // model, whose norms subtract the mean.
  model = Express(std::move(model), {.router_exponent = -had.router_exponent,
                                     .down_exponent = -had.down_exponent});
  return std::make_unique<RestoredModel>(std::move(model), std::move(beside), warn);
}

std::string LossyTypesOf(const StoredModel& model) {
  const bool is_lossy = std::ranges::any_of(model.pieces(), [](const StoredPiece& piece) {
    const auto* const type = std::get_if<GgmlType>(&piece.encoding);
    return piece.holds == Holds::kWeight && (type == nullptr || !FloatTypeOf(*type));
  });
  return is_lossy ? TotalsOf(model.pieces()).types : "";
}

}  // namespace phiq
