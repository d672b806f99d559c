// "Incomplete download?" sends most users the wrong way: their folder holds an adapter, the state
// of a training, an output, or the checkpoint stands one folder deeper. Names tell nearly all of
// it.
#include "checkpoint/diagnosis.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/ascii.h"
#include "base/json.h"
#include "base/limits.h"
#include "checkpoint/open_input.h"
#include "checkpoint/weight_files.h"
#include "io/input_file.h"
#include "io/temporaries.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kConfigName = "config.json";
constexpr std::string_view kAdapterConfig = "adapter_config.json";
constexpr std::string_view kMlxAdapter = "adapters.safetensors";
constexpr std::size_t kMaxFolders = 256;  // looked into
constexpr std::string_view kAsModel =
    "as MODEL quantize takes such a file or folder, and what was lost in it stays lost";

using Names = std::vector<std::string>;

bool Has(const Names& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

Names Matching(const Names& names, auto matches) {
  Names found;
  std::ranges::copy_if(names, std::back_inserter(found), matches);
  return found;
}

bool EndsWith(std::string_view name, std::string_view ending) {
  return name.size() > ending.size() &&
         EqualsIgnoringCase(name.substr(name.size() - ending.size()), ending);
}

// "'a', 'b', ... (12 in all)"
std::string Quoted(const Names& names) {
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMaxNamed); ++i)
    text += fmt::format("{}'{}'", i == 0 ? "" : ", ", Escape(names[i]));
  return names.size() > kMaxNamed ? fmt::format("{}, ... ({} in all)", text, names.size()) : text;
}

Names WeightNames(const Names& names) {
  return Matching(names, [](const std::string& name) {
    return EndsWith(name, ".safetensors") && !IsForeignWeights(name);
  });
}

// Where OpenVINO has the weights.
std::string BesideXml(const std::string& name) { return name.substr(0, name.size() - 4) + ".bin"; }

// What the runtimes load; "" for none: "a GGUF file 'x.gguf'".
std::string ConvertedIn(const Names& names) {
  const Names gguf =
      Matching(names, [](const std::string& name) { return EndsWith(name, ".gguf"); });
  if (!gguf.empty())
    return fmt::format("{} {}", gguf.size() == 1 ? "a GGUF file" : "GGUF files", Quoted(gguf));
  const Names onnx =
      Matching(names, [](const std::string& name) { return EndsWith(name, ".onnx"); });
  if (!onnx.empty()) return fmt::format("an ONNX model {}", Quoted(onnx));
  const Names openvino = Matching(names, [&](const std::string& name) {
    return EndsWith(name, ".xml") && Has(names, BesideXml(name));
  });
  if (!openvino.empty()) return fmt::format("an OpenVINO model {}", Quoted(openvino));
  const Names other = Matching(names, [](const std::string& name) {
    constexpr std::string_view kEndings[] = {".litertlm",  ".tflite", ".task", ".mlpackage",
                                             ".mlmodelc",  ".pte",    ".mnn",  ".engine",
                                             ".llamafile", ".ggml"};
    return std::ranges::any_of(kEndings,
                               [&](std::string_view ending) { return EndsWith(name, ending); });
  });
  return other.empty() ? "" : fmt::format("a model for a runtime {}", Quoted(other));
}

// Of weights; trainings leave others beside the model.
bool IsPickle(std::string_view name) {
  for (const std::string_view other :
       {"training_args", "optimizer", "scheduler", "rng_state", "scaler"})
    if (name.starts_with(other)) return false;
  return EndsWith(name, ".bin") || EndsWith(name, ".pt") || EndsWith(name, ".pth") ||
         EndsWith(name, ".ckpt");
}

// "microsoft/phi-4": what an adapter says of its base model, as far as it says it.
std::string BaseModel(const fs::path& folder) {
  try {
    const fs::path path = folder / kAdapterConfig;
    const Json config = ParseJson(ReadWholeFile(path, limits::kConfigBytes), path.native());
    for (const char* key : {"base_model_name_or_path", "model"}) {  // of PEFT, of mlx-lm
      if (const auto base = JsonString(config, key, path.native())) return Escape(*base);
    }
  } catch (const Error&) {  // the diagnosis of a folder does not end at a broken file
  }
  return "a model that it does not name";
}

bool BeginsWithGguf(const fs::path& path) {
  constexpr std::string_view kMagic = "GGUF";
  try {
    const InputFile file(path);
    std::string start(std::min<std::uint64_t>(file.size(), kMagic.size()), '\0');
    file.ReadAt(0, std::as_writable_bytes(std::span(start)));
    return start == kMagic;
  } catch (const Error&) {  // no regular file, no permission
    return false;
  }
}

Error Unsupported(const fs::path& folder, std::string message) {
  return Error(ErrorCode::kUnsupported, std::move(message)).In(folder.native());
}

Error Missing(const fs::path& folder, std::string message) {
  return Error(ErrorCode::kInput, std::move(message)).In(folder.native());
}

// The state of a training, or what a training wrote in place of a model.
std::optional<Error> TrainingState(const fs::path& folder, const Names& names) {
  if (Has(names, kAdapterConfig)) {
    return Unsupported(folder, fmt::format("is an adapter of {}, not a model", BaseModel(folder)))
        .Hint(Has(names, kMlxAdapter)
                  ? "make a model of the two first: mlx_lm.fuse"
                  : fmt::format("convert that model with --adapter {}", Escape(folder.native())));
  }
  const bool is_deepspeed =
      Has(names, "zero_to_fp32.py") || std::ranges::any_of(names, [](const std::string& name) {
        return name.starts_with("global_step") || name.starts_with("zero_pp_rank_");
      });
  if (is_deepspeed) {
    return Unsupported(folder, "holds the state of a DeepSpeed training, not a model")
        .Hint(
            fmt::format("make one of it first: python zero_to_fp32.py {} OUT --safe_serialization",
                        Escape(folder.native())));
  }
  const Names distributed =
      Matching(names, [](const std::string& name) { return EndsWith(name, ".distcp"); });
  const bool is_fsdp = std::ranges::any_of(
      names, [](const std::string& name) { return name.starts_with("pytorch_model_fsdp"); });
  if (distributed.empty() && is_fsdp) {
    return Unsupported(folder, "holds the state of an FSDP training, not a model")
        .Hint("save the model with save_pretrained() first");
  }
  if (distributed.empty()) return std::nullopt;
  return Unsupported(folder, fmt::format("holds a distributed checkpoint of PyTorch, {}",
                                         Quoted(distributed)))
      .Hint("save the model with save_pretrained() first");
}

// What the folders below a folder hold, by their names.
struct Below {
  Names checkpoints, adapters, converted;
  std::size_t n_folders = 0;
};

// MLX's outputs are checkpoints by their names.
bool IsQuantizedForMlx(const fs::path& folder) {
  try {
    const fs::path path = folder / kConfigName;
    const Json config = ParseJson(ReadWholeFile(path, limits::kConfigBytes), path.native());
    return config.is_object() && config.contains("quantization");
  } catch (const Error&) {  // the diagnosis of a folder does not end at a broken file
    return false;
  }
}

// `above` is the path of `names` below `folder`. Two deep: of RUN/checkpoint-500, of a repository
// with a folder for each device and type.
void LookBelow(const fs::path& folder, const std::string& above, const Names& names, Below& below) {
  constexpr std::size_t kMaxDepth = 2;
  for (const std::string& name : names) {
    const std::string inner_name = above + name;
    const fs::path path = folder / inner_name;
    std::error_code ignored;
    if (!fs::is_directory(path, ignored) || ++below.n_folders > kMaxFolders) continue;
    Names inner;
    try {
      inner = NamesInFolder(path);
    } catch (const Error&) {  // no permission
      continue;
    }
    const bool is_checkpoint = Has(inner, kConfigName) && !WeightNames(inner).empty();
    if (is_checkpoint && !IsQuantizedForMlx(path)) {
      below.checkpoints.push_back(inner_name);
    } else if (Has(inner, kAdapterConfig)) {
      below.adapters.push_back(inner_name);
    } else if (is_checkpoint || !ConvertedIn(inner).empty()) {
      below.converted.push_back(inner_name);
    } else if (std::ranges::count(inner_name, '/') + 1 < std::ptrdiff_t{kMaxDepth}) {
      LookBelow(folder, inner_name + "/", inner, below);
    }
  }
}

// "checkpoint-900" before "checkpoint-1000": by the number at the end, where there is one.
std::pair<std::size_t, std::string_view> NumberAtEnd(const std::string& name) {
  std::size_t n_digits = 0;
  while (n_digits < name.size() && IsAsciiDigit(name[name.size() - 1 - n_digits])) ++n_digits;
  std::string_view digits = std::string_view(name).substr(name.size() - n_digits);
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  return {digits.size(), digits};
}

std::optional<Error> CheckpointBelow(const fs::path& folder, const Below& below) {
  if (below.checkpoints.empty()) return std::nullopt;
  const std::string& last = *std::ranges::max_element(below.checkpoints, {}, NumberAtEnd);
  return Missing(folder,
                 fmt::format("holds no checkpoint itself, but {} {}", Quoted(below.checkpoints),
                             below.checkpoints.size() == 1 ? "does" : "do"))
      .Hint(fmt::format("give {} instead", Escape((folder / last).native())));
}

// Models that are converted already, here and in the folders below.
std::optional<Error> Converted(const fs::path& folder, const Names& names, const Below& below) {
  const std::string here = ConvertedIn(names);
  if (here.empty() && below.converted.empty()) return std::nullopt;
  std::string what = here;
  if (!below.converted.empty())
    what += fmt::format("{}models in {}", here.empty() ? "" : ", and ", Quoted(below.converted));
  const auto first = std::ranges::find_if(names, [&](const std::string& name) {
    const bool is_xml = EndsWith(name, ".xml") && Has(names, BesideXml(name));
    return is_xml || !ConvertedIn({name}).empty();
  });
  const std::string& one = first != names.end() ? *first : below.converted.front();
  return Unsupported(folder,
                     fmt::format("holds no checkpoint, but what is converted already: {}", what))
      .Hint(fmt::format("{}: name one, such as {}", kAsModel, Escape((folder / one).native())));
}

// "models--microsoft--phi-4": repositories of a hub cache.
std::optional<Error> HubCache(const fs::path& folder, const Names& names) {
  constexpr std::string_view kPrefix = "models--";
  Names ids;
  for (const std::string& name : names) {
    if (!name.starts_with(kPrefix)) continue;
    std::string id = name.substr(kPrefix.size());
    if (const std::size_t dashes = id.find("--"); dashes != id.npos) id.replace(dashes, 2, "/");
    ids.push_back(std::move(id));
  }
  if (ids.empty()) return std::nullopt;
  return Missing(folder, fmt::format("is a hub cache, which holds {}", Quoted(ids)))
      .Hint(fmt::format("give {} instead, with HF_HUB_CACHE set to this folder if it is not the "
                        "default one",
                        Escape(ids.front())));
}

std::optional<Error> OtherWeights(const fs::path& folder, const Names& names) {
  const Names others = Matching(names, [](const std::string& name) {
    return EndsWith(name, ".msgpack") || EndsWith(name, ".h5") || EndsWith(name, ".nemo");
  });
  if (!others.empty()) {
    return Unsupported(folder,
                       fmt::format("holds weights of another framework only, {}", Quoted(others)))
        .Hint("convert to safetensors: save_pretrained(..., safe_serialization=True)");
  }
  const Names pickles = Matching(names, IsPickle);
  if (pickles.empty()) return std::nullopt;
  return Unsupported(folder, fmt::format("holds pickle weights only, {}, and loading a pickle can "
                                         "run code",
                                         Quoted(pickles)))
      .Hint("convert to safetensors: save_pretrained(..., safe_serialization=True)");
}

std::optional<Error> AdaptersBelow(const fs::path& folder, const Below& below) {
  if (below.adapters.empty()) return std::nullopt;
  return Unsupported(folder,
                     fmt::format("holds no checkpoint, but adapters in {}", Quoted(below.adapters)))
      .Hint(fmt::format("convert the model of one with --adapter {}",
                        Escape((folder / below.adapters.front()).native())));
}

}  // namespace

void RequireCheckpoint(const CheckpointFolder& folder) {
  if (!folder.Has(kConfigName) || !FindWeightFiles(folder, [](const Warning&) {}))
    throw NoCheckpoint(folder);
}

Error NoCheckpoint(const CheckpointFolder& folder) {
  const fs::path& path = folder.path();
  const Names names = NamesInFolder(path);
  Names weights = WeightNames(names);
  if (weights.empty()) {  // under the name that Mistral's own tools give them
    weights = Matching(names, [](const std::string& name) {
      return name.starts_with("consolidated") && EndsWith(name, ".safetensors");
    });
  }
  const std::string download =
      folder.repository_id().empty()
          ? "incomplete download? fetch the files again"
          : fmt::format("incomplete download? `hf download {}`", folder.repository_id());
  if (std::optional<Error> state = TrainingState(path, names)) return *std::move(state);
  const bool has_weights = folder.weights_file() || !weights.empty() || Has(names, kIndexName);
  if (has_weights && !folder.Has(kConfigName)) {
    return Missing(path, "holds weights but no config.json")
        .Hint("config.json and the tokenizer files belong beside them");
  }
  if (!weights.empty()) {
    return Missing(path, fmt::format("no {} and no {}, but {}", kWeightsName, kIndexName,
                                     Quoted(weights)))
        .Hint(fmt::format("give {} as MODEL if that is all of the weights",
                          Escape((path / weights.front()).native())));
  }
  Below below;
  LookBelow(path, "", names, below);
  for (const auto& found :
       {HubCache(path, names), CheckpointBelow(path, below), Converted(path, names, below),
        OtherWeights(path, names), AdaptersBelow(path, below)}) {
    if (found) return *found;
  }
  if (folder.Has(kConfigName)) {
    return Missing(path, fmt::format("holds config.json but no weights: no {} and no {}",
                                     kWeightsName, kIndexName))
        .Hint(download);
  }
  return Missing(path, names.empty() ? "is an empty folder"
                                     : "holds no checkpoint: no config.json and no weights")
      .Hint("a checkpoint is config.json, *.safetensors and tokenizer files in one folder");
}

Error NoCheckpointFile(const std::string& path) {
  const std::string name = fs::path(path).filename().native();
  Names names = {name};
  if (EndsWith(name, ".xml")) names.push_back(BesideXml(name));
  if (BeginsWithGguf(path)) names = {name + ".gguf"};
  if (const std::string converted = ConvertedIn(names); !converted.empty()) {
    return Unsupported(path, fmt::format("is {}, which is converted already",
                                         converted.substr(0, converted.find(" '"))))
        .Hint(kAsModel);
  }
  if (IsPickle(name)) {
    return Unsupported(path, "is a pickle, and loading one can run code")
        .Hint("convert to safetensors: save_pretrained(..., safe_serialization=True)");
  }
  if (EndsWith(name, ".json")) {
    return Missing(path, "is a file beside a model's weights")
        .Hint(fmt::format("give its folder, {}", Escape(ParentFolder(path).native())));
  }
  return Missing(path, "is not a folder, a *.safetensors or a *.safetensors.index.json");
}

}  // namespace phiq
