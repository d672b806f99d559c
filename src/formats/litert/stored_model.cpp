// A model is what its graph computes: the graph is compared with the one that the configuration
// inside of the file gives, and another one is not believed.
#include "formats/litert/stored_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/ascii.h"
#include "base/limits.h"
#include "formats/litert/compare.h"
#include "formats/litert/limits.h"
#include "formats/litert/llm_metadata.h"
#include "formats/litert/reader.h"
#include "formats/tokenizer_files.h"
#include "model/rope.h"
#include "phiq/text.h"

namespace phiq::litert {
namespace {

// The small files inside of a file.
class FilesInside final : public SideFiles {
 public:
  explicit FilesInside(const File& file) : file_(file) {}

  std::filesystem::path PathOf(std::string_view name) const override {
    return file_.file().path() / name;
  }
  std::optional<std::string> ReadFile(std::string_view name,
                                      std::uint64_t max_bytes) const override {
    if (name == kConfigFile) {
      const std::string* text = file_.FindMetadata(kConfigKey);
      return text == nullptr ? std::nullopt : std::optional(*text);
    }
    const bool is_json = name == kTokenizerJson;
    if (!is_json && name != kSentencePieceFile) return std::nullopt;
    const Section* section =
        file_.FindSection(is_json ? SectionType::kZlibTokenizer : SectionType::kSentencePiece);
    if (section == nullptr) return std::nullopt;
    std::string text = file_.ReadSection(*section, max_bytes);
    return is_json ? DecompressTokenizer(text, file_.path()) : text;
  }
  std::vector<std::string> Names() const override { return {}; }
  std::uint64_t SizeBytes(std::string_view) const noexcept override { return 0; }

 private:
  const File& file_;
};

class LiteRtModel final : public StoredModel {
 public:
  LiteRtModel(File file, const WarningFn& warn)
      : StoredModel(file.path()), file_(std::move(file)), files_(file_) {
    for (const StoredTensor& tensor : file_.tensors()) pieces_.push_back(PieceOf(tensor));
    try {
      Understand(warn);
    } catch (const Error& error) {
      refusal_ = error;
    }
  }

  std::string_view kind() const noexcept override { return "litert"; }
  const ModelConfig& config() const override {
    if (refusal_) throw *refusal_;
    return config_;
  }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  const SideFiles& side_files() const noexcept override { return files_; }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    file_.ReadRows(file_.tensors()[piece], first_row, n_rows, codec, out);
  }
  std::uint64_t WorkBytes(std::size_t piece, std::uint64_t n_rows) const noexcept override {
    const StoredTensor& tensor = file_.tensors()[piece];
    return tensor.n_rows == 0 ? 0 : tensor.SizeBytes() / tensor.n_rows * n_rows;
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_->ReadRotary(n_positions, cosines, sines);
  }
  std::string RotaryNote(std::uint64_t n_positions) const override {
    if (!has_long_factors_ || n_positions > original_length_) return "";
    return fmt::format(
        "the file has the long rotary factors at every length, the model has short ones up to {} "
        "tokens: figures against other formats show that, too",
        original_length_);
  }

  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    const ModelConfig& of = config();
    if (file_.sections().empty()) {
      throw Error(ErrorCode::kUnsupported, "is a model without a tokenizer")
          .In(path())
          .Hint("a .litertlm file has one; or give the text as token ids with --ids");
    }
    Tokenizer tokenizer = phiq::ReadTokenizer(files_, of.vocab_size, of.bos_token_id,
                                              of.eos_token_id, of.pad_token_id, warn);
    const LlmMetadata metadata = ReadMetadata();
    tokenizer.add_bos = metadata.start_token.has_value();
    if (metadata.start_token) tokenizer.bos_id = metadata.start_token;
    tokenizer.chat_template = metadata.chat_template;
    return tokenizer;
  }

  About Describe(const WarningFn&) const override {
    About about;
    if (const auto* description = file_.model().description())
      about.metadata.emplace_back("description", Escape(description->str()));
    for (const auto& [name, value] : file_.metadata())
      if (name != kConfigKey) about.metadata.emplace_back(Escape(name), Escape(Text(value)));
    std::vector<std::string> signatures;
    if (const auto* graphs = file_.model().subgraphs()) {
      for (const tflite::SubGraph* graph : *graphs) {
        if (signatures.size() >= kMostSignatures) break;
        signatures.push_back(graph->name() == nullptr ? "" : Escape(graph->name()->str()));
      }
    }
    about.metadata.emplace_back("signatures", fmt::format("{}", fmt::join(signatures, ", ")));
    if (!refusal_) AddConfig(config_, about);
    if (file_.FindSection(SectionType::kLlmMetadata) == nullptr) return about;
    const LlmMetadata metadata = ReadMetadata();
    about.metadata.emplace_back("stop tokens",
                                fmt::format("{}", fmt::join(metadata.stop_tokens, ", ")));
    about.metadata.emplace_back("max_num_tokens", fmt::format("{}", metadata.max_num_tokens));
    if (!metadata.chat_template.empty())
      about.metadata.emplace_back("chat template",
                                  fmt::format("{} bytes", metadata.chat_template.size()));
    return about;
  }

  Facts facts() const override { return FactsOf(file_); }
  std::vector<std::string> FindDifferences(const Model& source,
                                           const SideFiles& files) const override {
    if (!IsOurs(file_)) return {};
    return litert::FindDifferences(file_, source, files);
  }

  void CheckUnchanged() const override { file_.file().CheckUnchanged(); }

 private:
  static constexpr std::size_t kMostSignatures = 100;

  StoredPiece PieceOf(const StoredTensor& tensor) const {
    StoredPiece piece;
    piece.name = tensor.name;
    piece.n_rows = tensor.n_rows;
    piece.row_elements = tensor.row_elements;
    piece.shape = tensor.shape;
    piece.type = tensor.type;
    piece.encoding = tensor.encoding;
    piece.size_bytes = tensor.SizeBytes();
    piece.file = path();
    const std::optional<WeightId> id = FindWeight(tensor.name);
    const auto refuse = [&](ErrorCode code, std::string why) {
      piece.holds = Holds::kNothing;
      piece.refusal = Error(code, std::move(why)).In(path()).Tensor(tensor.name);
    };
    if (tensor.refusal) {
      refuse(ErrorCode::kBadData, *tensor.refusal);
    } else if (!id) {
      refuse(ErrorCode::kUnsupported, "has no role in the models that phiq knows");
    } else if (tensor.shape.size() != (StaysFloat(id->role) ? 1 : 2)) {
      refuse(ErrorCode::kBadData, fmt::format("has {} dimensions", tensor.shape.size()));
    } else {
      piece.role = id->role;
      piece.layer = id->layer;
    }
    return piece;
  }

  // Texts of other programs may be filled with zeros.
  static std::string_view Text(std::string_view value) {
    return value.substr(0, value.find_last_not_of('\0') + 1);
  }

  LlmMetadata ReadMetadata() const {
    const Section* section = file_.FindSection(SectionType::kLlmMetadata);
    if (section == nullptr) return {};
    return ParseLlmMetadata(file_.ReadSection(*section, limits::kLlmMetadataBytes), path());
  }

  // Throws   why it is no model that phiq computes.
  void Understand(const WarningFn& warn) {
    if (!IsOurs(file_)) {
      throw Error(ErrorCode::kUnsupported, "was not written by phiq")
          .In(path())
          .Hint("phiq evaluates its own LiteRT files");
    }
    const ModelConfig config = ReadModelConfig(files_, warn);
    for (const StoredPiece& piece : pieces_)
      if (piece.refusal) throw *piece.refusal;
    const GraphPlan plan = PlanOf(file_, config);
    if (const std::vector<std::string> problems = CompareGraphs(file_, config, plan);
        !problems.empty()) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("the graph is not the one that its configuration means: {}",
                              problems.front()))
          .In(path());
    }
    AsRun(config, plan.graph);
  }

  // One set of rotary angles, no window, and a context of the cache's length.
  void AsRun(const ModelConfig& config, const GraphChoices& choices) {
    original_length_ = config.original_max_position_embeddings;
    has_long_factors_ = choices.long_factors;
    config_ = config;
    const ConfigTables tables(config);
    const std::span<const float> used =
        choices.long_factors ? tables.long_frequencies() : tables.short_frequencies();
    config_.sliding_window = 0;
    config_.max_position_embeddings = choices.cache_length;
    const std::vector<float> frequencies(used.begin(), used.end());
    tables_.emplace(config_, frequencies, frequencies, RopeAttentionFactor(config), path());
  }

  const File file_;
  const FilesInside files_;  // refers to file_
  std::optional<Error> refusal_;
  ModelConfig config_;
  std::uint32_t original_length_ = 0;
  bool has_long_factors_ = false;
  std::optional<ConfigTables> tables_;  // refers to config_
  std::vector<StoredPiece> pieces_;
};

}  // namespace

bool LooksLikeLiteRt(const std::filesystem::path& path) {
  try {
    const InputFile file(path);
    const std::string ending = LowerAscii(path.extension().native());
    if (ending == ".litertlm" || ending == ".tflite") return true;
    std::array<std::byte, kBundleMagic.size()> begin{};
    if (file.size() < begin.size()) return false;
    file.ReadAt(0, begin);
    return std::ranges::equal(begin, std::as_bytes(std::span(kBundleMagic))) ||
           tflite::ModelBufferHasIdentifier(begin.data());
  } catch (const Error&) {
    return false;
  }
}

std::unique_ptr<StoredModel> OpenModel(const std::string& path, const WarningFn& warn) {
  return std::make_unique<LiteRtModel>(File::Open(path), warn);
}

}  // namespace phiq::litert
