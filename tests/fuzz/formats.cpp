// Targets of stored models: each file of each format, in an output of the seed checkpoint that the
// other files come from. What can be opened is looked at as the commands do.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "convert/open_model.h"
#include "convert/record.h"
#include "engine/forward.h"
#include "formats/format.h"
#include "formats/gguf/reader.h"
#include "formats/importance.h"
#include "fuzz/targets.h"
#include "phiq/convert.h"
#include "phiq/profile.h"
#include "stored/adapter.h"
#include "stored/checkpoint_model.h"

namespace phiq::fuzz {
namespace {

namespace fs = std::filesystem;

// What an output is compared with.
const SourceModel& Source() {
  static const SourceModel source = OpenSourceModel(
      LocateSource(SeedFolder("model").string(), CheckWarning), {}, CheckWarning, {});
  return source;
}

void LookAt(const StoredModel& model) {
  constexpr std::uint64_t kMaxElements = 1U << 20;
  Attempt([&] { model.Describe(CheckWarning); });
  Attempt([&] { model.FindProblems(); });
  Attempt([&] { model.facts(); });
  Attempt([&] { model.FindDifferences(Source().model, Source().stored->side_files()); });
  Attempt([&] { model.ReadTokenizer(CheckWarning); });
  RowCodec codec;
  std::vector<float> row;
  for (std::size_t i = 0; i < model.pieces().size(); ++i) {
    const StoredPiece& piece = model.pieces()[i];
    if (piece.row_elements > kMaxElements || piece.n_rows == 0) continue;
    row.resize(piece.row_elements);
    for (const std::uint64_t r : {std::uint64_t{0}, piece.n_rows - 1})
      Attempt([&] { model.ReadRows(i, r, 1, codec, row); });
  }
  Attempt([&] {
    constexpr std::uint32_t kContext = 8;
    const engine::ForwardModel forward(model, kContext);
  });
}

void OpenAndLookAt(const fs::path& path) {
  std::unique_ptr<StoredModel> model;
  Attempt([&] { model = OpenStoredModel(path.string(), CheckWarning); });
  if (model) LookAt(*model);
}

// One file of an output.
struct Place {
  std::string target, format;
  std::string ending;  // of an output that is a file: it is the input
  std::string file;    // of one that is a folder
  Shape shape = Shape::kBinary;
  std::vector<KnobValue> knobs = {};

  bool is_folder() const { return ending.empty(); }
};

// Made once, for this target alone: the file in it is overwritten.
fs::path OutputOf(const Place& place) {
  const fs::path path = TheScratch().path() / (place.target + place.ending);
  if (fs::exists(path)) return path;
  ConvertOptions options;
  options.model = SeedFolder("model").string();
  options.output = path.string();
  options.targets =
      ResolveTargets({.formats = {place.format}, .precision = std::nullopt, .knobs = place.knobs});
  options.fsync = false;
  Convert(options, {});
  return path;
}

void RunPlace(const Place& place, Input input) {
  if (!place.is_folder()) return OpenAndLookAt(TheScratch().Write("changed" + place.ending, input));
  const fs::path output = OutputOf(place);
  TheScratch().Write(place.target + "/" + place.file, input);
  OpenAndLookAt(output);
}

Target TargetOf(const Place& place) {
  return {
      place.target, place.shape, [place](Input input) { RunPlace(place, input); },
      [place] {
        const fs::path output = OutputOf(place);
        return std::vector<std::string>{ReadSeed(place.is_folder() ? output / place.file : output)};
      }};
}

// The header of a GGUF, with which nothing is done. The tensors' bytes are a hole behind the input.
struct GgufSeed {
  std::string header;
  std::uint64_t tensor_bytes = 0;
};

const GgufSeed& TheGgufSeed() {
  static const GgufSeed seed = [] {
    const fs::path path = OutputOf({"gguf_header", "gguf", ".gguf", ""});
    const gguf::File file = gguf::File::Open(path, CheckWarning);
    const auto first = std::ranges::min_element(file.tensors(), {}, &gguf::Tensor::offset_bytes);
    std::string whole = ReadSeed(path);
    const std::uint64_t tensor_bytes = whole.size() - first->offset_bytes;
    whole.resize(first->offset_bytes);
    return GgufSeed{std::move(whole), tensor_bytes};
  }();
  return seed;
}

void RunGgufHeader(Input input) {
  const fs::path path = TheScratch().Write("header.gguf", input);
  const std::uint64_t file_bytes = input.size() + TheGgufSeed().tensor_bytes;
  fs::resize_file(path, file_bytes);
  Attempt([&] {
    const gguf::File file = gguf::File::Open(path, CheckWarning);
    for (const gguf::Tensor& tensor : file.tensors())
      if (tensor.offset_bytes > file_bytes || tensor.size_bytes > file_bytes - tensor.offset_bytes)
        Fail("a tensor outside of its file");
  });
}

void RunCheckpoint(Input input) {
  static const fs::path folder = [] {
    fs::path made = TheScratch().path() / "checkpoint";
    fs::copy(SeedFolder("model"), made);
    return made;
  }();
  TheScratch().Write("checkpoint/model.safetensors", input);
  OpenAndLookAt(folder);
}

void RunImportance(Input input) {
  const std::string path = TheScratch().Write("imatrix", input).string();
  Attempt([&] { ReadImportance(path, Source().model, CheckWarning); });
}

std::vector<std::string> ImportanceSeeds() {
  const std::vector<InputSquares> inputs = {
      {{TensorRole::kAttentionOutput, 0}, std::vector<float>(32, 2.0F), 128},
      {{TensorRole::kMlpDown, 0}, std::vector<float>(32, 0.5F), 128}};
  std::vector<std::string> seeds;
  for (const ImportanceForm form : {ImportanceForm::kTensors, ImportanceForm::kDat}) {
    const std::vector<std::byte> bytes =
        EncodeImportance(form, inputs, std::vector<std::string>{"text"}, 64);
    seeds.emplace_back(TextOf(bytes));
  }
  return seeds;
}

void RunRecord(Input input) {
  Attempt([&] {
    const Record record = ParseRecord(TextOf(input), "phiq.json");
    BlankRecord(std::string(TextOf(input)), record);
  });
}

std::string AdapterConfig() {
  return R"({"peft_type":"LORA","base_model_name_or_path":"x","r":2,"lora_alpha":4,"bias":"none",)"
         R"("target_modules":["o_proj"],"use_rslora":false,"task_type":"CAUSAL_LM"})";
}

std::string AdapterTensors() {
  const std::string name = "base_model.model.model.layers.0.self_attn.o_proj.lora_";
  std::string header =
      "{\"" + name + R"(A.weight":{"dtype":"F32","shape":[2,32],"data_offsets":[0,256]},")" + name +
      R"(B.weight":{"dtype":"F32","shape":[32,2],"data_offsets":[256,512]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size() & 0xFF);
  file[1] = static_cast<char>(header.size() >> 8);
  return file + header + std::string(512, '\0');
}

// A LoRA adapter of two files, one of them given.
void RunAdapter(const std::string& name, Input input) {
  std::error_code ignored;
  fs::create_directory(TheScratch().path() / "adapter", ignored);
  const auto write = [](const std::string& file, std::string_view content) {
    TheScratch().Write("adapter/" + file, std::as_bytes(std::span(content)));
  };
  write("adapter_config.json", AdapterConfig());
  write("adapter_model.safetensors", AdapterTensors());
  write(name, TextOf(input));
  std::unique_ptr<StoredModel> model;
  Attempt([&] {
    model = MergeAdapter(
        OpenCheckpointModel(LocateCheckpoint(SeedFolder("model").string(), CheckWarning), {},
                            CheckWarning),
        (TheScratch().path() / "adapter").string(), CheckWarning);
  });
  if (model) LookAt(*model);
}

}  // namespace

std::span<const Target> FormatTargets() {
  static const std::vector<Target> targets = [] {
    using enum Shape;
    const std::vector<KnobValue> int8 = {{"type", "INT8_ASYM", ""}};
    const std::vector<KnobValue> small_groups = {{"group-size", "32", ""}};
    std::vector<Target> all;
    for (const Place& place : std::vector<Place>{
             {"gguf", "gguf", ".gguf", "", kBinary},
             {"onnx_model", "onnx", "", "model.onnx", kBinary},
             {"onnx_genai_config", "onnx", "", "genai_config.json", kText},
             {"openvino_xml", "openvino", "", "openvino_model.xml", kText, int8},
             {"openvino_config", "openvino", "", "config.json", kText, int8},
             {"mlx_config", "mlx", "", "config.json", kText},
             {"mlx_tensors", "mlx", "", "model.safetensors", kSafetensors},
             {"litert", "litert", ".litertlm", "", kBinary},
             {"tflite", "litert", ".tflite", "", kBinary},
             {"torch_config", "torch", "", "config.json", kText, small_groups},
             {"torch_tensors", "torch", "", "model.safetensors", kSafetensors, small_groups},
         })
      all.push_back(TargetOf(place));
    all.push_back({"gguf_header", kBinary, RunGgufHeader,
                   [] { return std::vector<std::string>{TheGgufSeed().header}; }});
    all.push_back({"checkpoint", kSafetensors, RunCheckpoint, [] {
                     return std::vector<std::string>{
                         ReadSeed(SeedFolder("model") / "model.safetensors")};
                   }});
    all.push_back({"imatrix", kBinary, RunImportance, ImportanceSeeds});
    all.push_back({"record", kText, RunRecord, [] {
                     const Place place = {"record", "mlx", "", "phiq.json", kText};
                     return std::vector<std::string>{ReadSeed(OutputOf(place) / place.file)};
                   }});
    all.push_back({"adapter_config", kText,
                   [](Input input) { RunAdapter("adapter_config.json", input); },
                   [] { return std::vector<std::string>{AdapterConfig()}; }});
    all.push_back({"adapter_tensors", kSafetensors,
                   [](Input input) { RunAdapter("adapter_model.safetensors", input); },
                   [] { return std::vector<std::string>{AdapterTensors()}; }});
    return all;
  }();
  return targets;
}

}  // namespace phiq::fuzz
