// One type, one option, no fallbacks: the folder has rows.f32, every row behind the one before, an
// index.json that says where each weight begins, and the checkpoint's files that a reader needs.
#include "rawrows/format.h"

#include <fmt/format.h>

#include <array>
#include <set>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "formats/side_files.h"
#include "formats/tokenizer_files.h"
#include "io/input_file.h"
#include "model/rope.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq::rawrows {
namespace {

constexpr std::string_view kRows = "rows.f32", kIndex = "index.json", kConfig = "config.json";
constexpr std::string_view kOrders[] = {"model", "reverse"};

constexpr Knob kKnobs[] = {
    {"order", "NAME", "Which weight comes first: model (default) or reverse", "", kOrders},
};

struct RowsPlan final : Plan {
  bool is_reverse = false;
};

std::string ParseType(std::string_view name) {
  if (LowerAscii(name) == "raw") return "raw";
  throw UnknownType(name, std::array{std::string("raw")});
}

std::unique_ptr<Plan> MakePlan(const Model& model, const PlanOptions& options, const Answers&,
                               const WarningFn&) {
  auto plan = std::make_unique<RowsPlan>();
  plan->type = ParseType(options.type);
  plan->is_reverse = FindWord(options, "order", kOrders) == 1;
  for (const ModelTensor& tensor : model.tensors) {
    PlanLine line = LineOf(tensor);
    line.encoding = GgmlType::kF32;
    line.reason = "raw: everything";
    SetSize(line);
    plan->lines.push_back(std::move(line));
  }
  return plan;
}

OutputLayout LayOut(const Model& model, const SideFiles& source, Plan& plan, const WarningFn&) {
  OutputLayout layout;
  layout.is_folder = true;
  Json facts = Json::object(), weights = Json::array();
  for (const auto& [key, value] : plan.facts) facts[key] = value;
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < plan.lines.size(); ++i) {
    const bool is_reverse = static_cast<const RowsPlan&>(plan).is_reverse;
    const std::size_t at = is_reverse ? plan.lines.size() - 1 - i : i;
    const PlanLine& line = plan.lines[at];
    layout.arrays.push_back({.line = at, .offset_bytes = end});
    weights.push_back(Json::object({{"name", CheckpointName(model.config, {line.role, line.layer})},
                                    {"offset", end},
                                    {"rows", line.n_rows()},
                                    {"columns", line.row_elements()}}));
    end += line.size_bytes;
  }
  layout.files.push_back({std::string(kRows), {}, end});
  for (SideFile& file : ReadTokenizerFiles(source, {}, "rawrows"))
    layout.files.push_back(WholeFile(std::move(file.name), std::move(file.content)));
  const std::optional<std::string> config = source.ReadFile(kConfig, limits::kConfigBytes);
  layout.files.push_back(WholeFile(std::string(kConfig), BytesOf(config.value_or("{}"))));
  layout.root = layout.files.size();
  const Json index = Json::object({{"type", plan.type}, {"facts", facts}, {"weights", weights}});
  layout.files.push_back(WholeFile(std::string(kIndex), BytesOf(index.dump())));
  return layout;
}

std::vector<std::string> OwnedFiles(const SideFiles&) {
  std::vector<std::string> names = {std::string(kRows), std::string(kIndex), std::string(kConfig)};
  for (const std::string_view name : TokenizerFileNames()) names.emplace_back(name);
  return names;
}

const Json& Member(const Json& object, std::string_view key) {
  if (const Json* const member = object.find(key)) return *member;
  throw Error(ErrorCode::kBadData, fmt::format("the index lacks '{}'", key));
}

class RawRowsModel final : public StoredModel {
 public:
  RawRowsModel(const std::string& path, const WarningFn& warn)
      : StoredModel(path),
        rows_(std::filesystem::path(path) / kRows),
        config_(ReadModelConfig(LocateCheckpoint(path, warn), warn)),
        tables_(config_) {
    const std::string where = (std::filesystem::path(path) / kIndex).string();
    index_ = ParseJson(ReadWholeFile(where, limits::kConfigBytes), where, limits::kJsonDepth);
    for (const Json& weight : Member(index_, "weights")) {
      StoredPiece& piece = pieces_.emplace_back();
      piece.name = Member(weight, "name").get<std::string>();
      piece.n_rows = Member(weight, "rows").get<std::uint64_t>();
      piece.row_elements = Member(weight, "columns").get<std::uint64_t>();
      if (const std::optional<WeightId> id = FindWeight(piece.name)) {
        piece.role = id->role;
        piece.layer = id->layer;
      } else {
        piece.holds = Holds::kNothing;
        piece.refusal = Error(ErrorCode::kUnsupported, "has no role").In(path).Tensor(piece.name);
      }
      if (!IsNorm(piece.role)) piece.shape.push_back(piece.n_rows);
      piece.shape.push_back(piece.row_elements);
      piece.encoding = GgmlType::kF32;
      piece.type = "F32";
      piece.size_bytes = piece.n_rows * piece.row_elements * sizeof(float);
      piece.file = rows_.path().string();
      offsets_.push_back(Member(weight, "offset").get<std::uint64_t>());
    }
  }

  std::string_view kind() const noexcept override { return "rawrows"; }
  const ModelConfig& config() const override { return config_; }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t, RowCodec&,
                std::span<float> out) const override {
    rows_.ReadAt(offsets_[piece] + first_row * pieces_[piece].row_elements * sizeof(float),
                 std::as_writable_bytes(out));
  }
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    tables_.ReadRotary(n_positions, cosines, sines);
  }
  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return ReadTokenizerBeside(path(), config_, warn);
  }
  About Describe(const WarningFn&) const override {
    return {{{"type", Member(index_, "type").text()}}, {}};
  }
  Facts facts() const override {
    Facts facts;
    for (const auto& [key, value] : Member(index_, "facts").members())
      facts.emplace_back(key, value.text());
    return facts;
  }
  void CheckUnchanged() const override { rows_.CheckUnchanged(); }

 private:
  const InputFile rows_;
  const ModelConfig config_;
  const ConfigTables tables_;
  Json index_;
  std::vector<StoredPiece> pieces_;
  std::vector<std::uint64_t> offsets_;
};

bool Recognizes(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path / kIndex, ignored);
}

}  // namespace

const Format kFormat = {
    .name = "rawrows",
    .title = "RawRows",
    .knobs = kKnobs,
    .types =
        [] {
          return std::vector<TypeName>{{"raw", "32.00 bits, exact"}};
        },
    .parse_type = ParseType,
    .types_of_precisions = {"", "", "", "", "raw"},
    .plan = MakePlan,
    .lay_out = LayOut,
    .owned_files = OwnedFiles,
    .recognizes = Recognizes,
    .open = [](const std::string& path, const WarningFn& warn) -> std::unique_ptr<StoredModel> {
      return std::make_unique<RawRowsModel>(path, warn);
    },
};

}  // namespace phiq::rawrows
