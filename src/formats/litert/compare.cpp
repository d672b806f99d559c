// The expected file is made anew, from the encodings that were found, and compared: byte for byte,
// and where bytes differ, table by table for the message.
#include "formats/litert/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "base/limits.h"
#include "formats/litert/limits.h"
#include "formats/litert/llm_metadata.h"
#include "formats/tokenizer_files.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq::litert {
namespace {

namespace fb = flatbuffers;

constexpr std::string_view kFactPrefix = "phiq.";

std::string NameOf(const fb::String* name) { return name == nullptr ? "" : Escape(name->str()); }

template <typename T>
bool SameVector(const fb::Vector<T>* a, const fb::Vector<T>* b) {
  const auto values_of = [](const fb::Vector<T>* v) {
    return v == nullptr ? std::span<const T>() : std::span<const T>(v->data(), v->size());
  };
  return std::ranges::equal(values_of(a), values_of(b));
}

template <typename T>
std::size_t SizeOf(const fb::Vector<T>* vector) {
  return vector == nullptr ? 0 : vector->size();
}

// Both flatbuffers are verified; `found` may say anything.
class GraphComparison {
 public:
  GraphComparison(const tflite::Model& wanted, const tflite::Model& found)
      : wanted_(wanted), found_(found) {}

  // The first difference of each subgraph, then of constants.
  std::vector<std::string> Find() {
    if (SizeOf(wanted_.subgraphs()) != SizeOf(found_.subgraphs())) {
      return {fmt::format("has {} signatures, phiq writes {}", SizeOf(found_.subgraphs()),
                          SizeOf(wanted_.subgraphs()))};
    }
    std::vector<std::string> problems;
    for (fb::uoffset_t i = 0; i < wanted_.subgraphs()->size(); ++i) {
      const tflite::SubGraph& wanted = *wanted_.subgraphs()->Get(i);
      const std::string what = DifferenceOf(wanted, *found_.subgraphs()->Get(i));
      if (!what.empty())
        problems.push_back(fmt::format("signature '{}': {}", NameOf(wanted.name()), what));
    }
    if (problems.empty())
      problems.push_back("the graph's constants or signatures are others than phiq writes");
    return problems;
  }

 private:
  std::string DifferenceOf(const tflite::SubGraph& wanted, const tflite::SubGraph& found) const {
    const std::size_t n_tensors = SizeOf(wanted.tensors());
    if (SizeOf(found.tensors()) != n_tensors)
      return fmt::format("has {} tensors, phiq writes {}", SizeOf(found.tensors()), n_tensors);
    for (fb::uoffset_t i = 0; i < n_tensors; ++i) {
      const std::string what = DifferenceOf(*wanted.tensors()->Get(i), *found.tensors()->Get(i));
      if (!what.empty())
        return fmt::format("tensor '{}' {}", NameOf(wanted.tensors()->Get(i)->name()), what);
    }
    const std::size_t n_operators = SizeOf(wanted.operators());
    if (SizeOf(found.operators()) != n_operators) {
      return fmt::format("has {} operators, phiq writes {}", SizeOf(found.operators()),
                         n_operators);
    }
    for (fb::uoffset_t i = 0; i < n_operators; ++i) {
      const tflite::Operator& a = *wanted.operators()->Get(i);
      const tflite::Operator& b = *found.operators()->Get(i);
      if (CodeOf(wanted_, a) != CodeOf(found_, b) || !SameVector(a.inputs(), b.inputs()) ||
          !SameVector(a.outputs(), b.outputs()))
        return fmt::format("operator {} is another than phiq writes", i);
    }
    return "";
  }

  std::string DifferenceOf(const tflite::Tensor& wanted, const tflite::Tensor& found) const {
    if (NameOf(wanted.name()) != NameOf(found.name()))
      return fmt::format("is called '{}'", NameOf(found.name()));
    if (wanted.type() != found.type()) return "has another type than phiq writes";
    if (!SameVector(wanted.shape(), found.shape())) return "has another shape than phiq writes";
    const auto data_of = [](const tflite::Model& model, const tflite::Tensor& tensor) {
      const fb::Vector<std::uint8_t>* none = nullptr;
      return model.buffers() == nullptr || tensor.buffer() >= model.buffers()->size()
                 ? none
                 : model.buffers()->Get(tensor.buffer())->data();
    };
    if (!SameVector(data_of(wanted_, wanted), data_of(found_, found)))
      return "has other values than phiq writes";
    return "";
  }

  static std::int64_t CodeOf(const tflite::Model& model, const tflite::Operator& op) {
    const auto* codes = model.operator_codes();
    if (op.opcode_index() >= SizeOf(codes)) return -1;
    return codes->Get(op.opcode_index())->builtin_code();
  }

  const tflite::Model& wanted_;
  const tflite::Model& found_;
};

// The tensor of decode that is called so; nullptr: none.
const tflite::Tensor* FindDecodeInput(const File& file, std::string_view name) {
  if (file.model().subgraphs() == nullptr) return nullptr;
  for (const tflite::SubGraph* graph : *file.model().subgraphs()) {
    if (graph->name() == nullptr || graph->name()->string_view() != kDecode) continue;
    if (graph->tensors() == nullptr) return nullptr;
    for (const tflite::Tensor* tensor : *graph->tensors())
      if (tensor->name() != nullptr && tensor->name()->string_view() == name) return tensor;
    return nullptr;
  }
  return nullptr;
}

}  // namespace

bool IsOurs(const File& file) noexcept { return file.FindMetadata(kConfigKey) != nullptr; }

Facts FactsOf(const File& file) {
  Facts facts;
  for (const auto& [name, value] : file.metadata())
    if (name.starts_with(kFactPrefix) && name != kTypeKey && name != kConfigKey)
      facts.emplace_back(name, value);
  return facts;
}

GraphPlan PlanOf(const File& file, const ModelConfig& config) {
  GraphPlan plan;
  const std::string* type = file.FindMetadata(kTypeKey);
  plan.type = type == nullptr ? "" : *type;
  plan.facts = FactsOf(file);
  plan.is_bare = file.sections().empty();
  for (const StoredTensor& tensor : file.tensors()) {
    const std::optional<WeightId> id = FindWeight(tensor.name);
    if (!id || tensor.refusal) continue;
    PlanLine& line = plan.lines.emplace_back();
    line.name = tensor.name;
    line.role = id->role;
    line.layer = id->layer;
    line.shape = tensor.shape;
    line.encoding = tensor.encoding;
  }
  const tflite::Tensor* mask = FindDecodeInput(file, "mask");
  const auto* shape = mask == nullptr ? nullptr : mask->shape();
  const std::int32_t length = SizeOf(shape) == 4 ? shape->Get(3) : 0;
  if (length <= 0) {
    throw Error(ErrorCode::kBadData,
                "has no signature 'decode' with a mask, which says how long the cache is")
        .In(file.path());
  }
  const auto n_tokens = static_cast<std::uint32_t>(length);
  plan.graph = {n_tokens, PrefillLengths(n_tokens), NeedsLongFactors(config, n_tokens)};
  return plan;
}

std::vector<std::string> CompareGraphs(const File& file, const ModelConfig& config,
                                       const GraphPlan& plan) {
  for (const WeightInfo& wanted : WeightsOf(config)) {
    const bool is_there = std::ranges::any_of(plan.lines, [&](const PlanLine& line) {
      return line.role == wanted.id.role && line.layer == wanted.id.layer;
    });
    const bool may_miss = wanted.id.role == TensorRole::kOutputHead && config.tie_word_embeddings;
    if (!is_there && !may_miss) return {fmt::format("{} is missing", wanted.name)};
  }
  ModelGraph graph = BuildModelGraph(config, plan.lines, plan.graph);
  graph.description =
      file.model().description() == nullptr ? "" : file.model().description()->str();
  graph.metadata = file.metadata();
  const PlacedModel expected = PlaceModel(graph, plan.lines);
  std::vector<std::byte> found(file.flatbuffer().begin(), file.flatbuffer().end());
  // What lies between the flatbuffer and the first array belongs to neither.
  if (found.size() > expected.head.size() && found.size() - expected.head.size() < kArrayAlignment)
    found.resize(expected.head.size());
  // The scales of rows are weights.
  if (found.size() == expected.head.size()) {
    for (const PlacedArray& array : expected.arrays) {
      if (array.offset_bytes >= found.size()) break;
      const PlanLine& line = plan.lines[array.line];
      const std::uint64_t n_bytes =
          line.n_rows() * ArrayRowBytes(line.encoding, array.array, line.row_elements());
      std::copy_n(expected.head.begin() + static_cast<std::ptrdiff_t>(array.offset_bytes), n_bytes,
                  found.begin() + static_cast<std::ptrdiff_t>(array.offset_bytes));
    }
    if (found == expected.head) return {};
  }
  return GraphComparison(*tflite::GetModel(expected.head.data()), file.model()).Find();
}

namespace {

// What of a bundle stands around the model.
void CompareSections(const File& file, const Model& source, const SideFiles& files, GraphPlan& plan,
                     std::vector<std::string>& problems) {
  const std::vector<std::byte> wanted = MakeLlmMetadata(files, source, plan);
  const Section* metadata = file.FindSection(SectionType::kLlmMetadata);
  if (metadata == nullptr) {
    problems.push_back("the section LlmMetadata is missing");
  } else if (const std::string found = file.ReadSection(*metadata, limits::kLlmMetadataBytes);
             !std::ranges::equal(std::as_bytes(std::span(found)), wanted)) {
    problems.push_back(
        "LlmMetadata (stop tokens, chat template, context) is not what the source "
        "gives");
  }
  for (const auto& [type, name, limit] :
       {std::tuple(SectionType::kZlibTokenizer, kTokenizerJson, limits::kTokenizerJsonBytes),
        {SectionType::kSentencePiece, kSentencePieceFile, limits::kTokenizerModelBytes}}) {
    const Section* section = file.FindSection(type);
    if (section == nullptr) continue;
    std::string text = file.ReadSection(*section, limit);
    if (type == SectionType::kZlibTokenizer) text = DecompressTokenizer(text, file.path());
    const std::optional<std::string> source_text = files.ReadFile(name, limit);
    if (text != source_text)
      problems.push_back(fmt::format("the tokenizer is not {} of the source", name));
    return;
  }
  problems.push_back("the section of the tokenizer is missing");
}

}  // namespace

std::vector<std::string> FindDifferences(const File& file, const Model& source,
                                         const SideFiles& files) {
  try {
    GraphPlan plan = PlanOf(file, source.config);
    std::vector<std::string> problems = CompareGraphs(file, source.config, plan);
    if (!plan.is_bare) CompareSections(file, source, files, plan, problems);
    return problems;
  } catch (const Error& error) {
    return {fmt::format("the file cannot be compared: {}", error.what())};
  }
}

}  // namespace phiq::litert
