// The model is what mlx-lm runs: it rotates by the long factors at every length, whatever the
// checkpoint says.
#include "formats/mlx/stored_model.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "formats/mlx/compare.h"
#include "formats/mlx/recipe.h"
#include "formats/tokenizer_files.h"
#include "model/rope.h"
#include "phiq/text.h"

namespace phiq::mlx {
namespace {

// The model as mlx-lm runs it: its longrope has no short factors.
ModelConfig AsRun(ModelConfig config) {
  config.short_factor = config.long_factor;
  if (config.long_attention_factor)
    config.attention_factor = std::exchange(config.long_attention_factor, std::nullopt);
  return config;
}

class MlxModel final : public StoredModel {
 public:
  MlxModel(Folder folder, std::string path)
      : StoredModel(std::move(path)),
        folder_(std::move(folder)),
        config_(AsRun(folder_.config())),
        tables_(config_) {
    for (const Weight& weight : folder_.weights()) {
      const SourceTensor& first = folder_.tensors().tensors()[*weight.arrays[0]];
      pieces_.push_back(WholePiece(weight, folder_.SizeBytes(weight),
                                   folder_.tensors().shards()[first.shard].string()));
    }
  }

  std::string_view kind() const noexcept override { return "mlx"; }
  const ModelConfig& config() const override { return config_; }
  Expression expression() const override { return OwnExpression(config_); }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  std::string name() const override { return folder_.files().model_name(); }
  std::string repository_id() const override { return folder_.files().repository_id(); }
  const SideFiles& side_files() const noexcept override { return folder_.files(); }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    folder_.ReadRows(folder_.weights()[piece], first_row, n_rows, codec, out);
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_.ReadRotary(n_positions, cosines, sines);
  }

  std::string RotaryNote(std::uint64_t n_positions) const override {
    const ModelConfig& model = folder_.config();
    if (model.short_factor == model.long_factor ||
        n_positions > model.original_max_position_embeddings)
      return "";
    return fmt::format(
        "mlx-lm has the long rotary factors at every length, the model has short ones "
        "up to {} tokens: figures against other formats show that, too",
        model.original_max_position_embeddings);
  }

  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return ReadTokenizerBeside(folder_.files().path(), config_, warn);
  }

  About Describe(const WarningFn& warn) const override {
    About about;
    for (const auto& [key, value] : folder_.tensors().metadata())
      about.metadata.emplace_back(Escape(key), Escape(value));
    AddConfig(folder_.config(), about);
    AddTokenizer(ReadTokenizer(warn), about);
    return about;
  }

  Facts facts() const override {
    Facts facts;
    for (const auto& [key, value] : folder_.tensors().metadata())
      if (key.starts_with("phiq.")) facts.emplace_back(key, value);
    return facts;
  }
  std::vector<std::string> FindDifferences(const Model& source,
                                           const SideFiles& files) const override {
    if (!IsOurs(folder_)) return {};
    return mlx::FindDifferences(folder_, files, source);
  }

  void CheckUnchanged() const override { folder_.tensors().CheckUnchanged(); }

 private:
  const Folder folder_;
  const ModelConfig config_;
  const ConfigTables tables_;  // refers to config_
  std::vector<StoredPiece> pieces_;
};

}  // namespace

std::unique_ptr<StoredModel> MakeStoredModel(Folder folder, std::string path) {
  return std::make_unique<MlxModel>(std::move(folder), std::move(path));
}

}  // namespace phiq::mlx
