// The model is what loaders compute with the decoded weights. Where they round activations besides,
// nothing here does: a note says so.
#include "formats/torch/stored_model.h"

#include <mutex>
#include <utility>
#include <vector>

#include "formats/tokenizer_files.h"
#include "formats/torch/compare.h"
#include "model/rope.h"
#include "phiq/text.h"

namespace phiq::torch {
namespace {

class TorchModel final : public StoredModel {
 public:
  TorchModel(Folder folder, std::string path)
      : StoredModel(std::move(path)), folder_(std::move(folder)), tables_(folder_.config()) {
    for (const Weight& weight : folder_.weights()) {
      const SourceTensor& first = folder_.tensors().tensors()[*weight.arrays[0]];
      pieces_.push_back(WholePiece(weight, folder_.SizeBytes(weight),
                                   folder_.tensors().shards()[first.shard].string()));
    }
  }

  std::string_view kind() const noexcept override { return "torch"; }
  const ModelConfig& config() const override {
    if (!WrongConstants().empty())
      throw Error(ErrorCode::kBadData, WrongConstants().front()).In(path());
    return folder_.config();
  }
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

  std::string ActivationNote() const override {
    if (folder_.quantization().box() != Box::kIntegers) return "";
    return "figures are of the weights alone: transformers and vLLM quantize activations to 8 bits "
           "besides, which is not measured here";
  }

  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return ReadTokenizerBeside(folder_.files().path(), folder_.config(), warn);
  }

  About Describe(const WarningFn& warn) const override {
    About about;
    about.metadata.emplace_back("quant_method", QuantMethod(folder_.quantization().box()));
    for (const auto& [key, value] : facts())
      about.metadata.emplace_back(Escape(key), Escape(value));
    AddConfig(folder_.config(), about);
    AddTokenizer(ReadTokenizer(warn), about);
    return about;
  }

  Facts facts() const override {
    const std::optional<Quantization::Origin>& origin = folder_.quantization().origin();
    if (!origin) return {};
    Facts facts = {{"phiq.version", origin->version}, {"phiq.type", origin->type}};
    facts.insert(facts.end(), origin->facts.begin(), origin->facts.end());
    return facts;
  }
  std::vector<std::string> FindProblems() const override {
    std::vector<std::string> problems = folder_.loader_problems();
    problems.insert(problems.end(), WrongConstants().begin(), WrongConstants().end());
    return problems;
  }
  std::vector<std::string> FindLoaderProblems() const override { return folder_.loader_problems(); }
  std::vector<std::string> FindDifferences(const Model& source,
                                           const SideFiles& files) const override {
    if (!folder_.quantization().origin()) return {};
    return torch::FindDifferences(folder_, files, source);
  }

  void CheckUnchanged() const override { folder_.tensors().CheckUnchanged(); }

 private:
  // Read when they are first asked for: they may be a hundredth of the weights.
  const std::vector<std::string>& WrongConstants() const {
    std::call_once(are_constants_read_, [&] { wrong_constants_ = folder_.FindWrongConstants(); });
    return wrong_constants_;
  }

  const Folder folder_;
  const ConfigTables tables_;  // refers to the folder's configuration
  std::vector<StoredPiece> pieces_;
  mutable std::once_flag are_constants_read_;
  mutable std::vector<std::string> wrong_constants_;
};

}  // namespace

std::unique_ptr<StoredModel> MakeStoredModel(Folder folder, std::string path) {
  return std::make_unique<TorchModel>(std::move(folder), std::move(path));
}

}  // namespace phiq::torch
