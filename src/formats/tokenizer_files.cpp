// One list of names, for those who copy, compare and read.
#include "formats/tokenizer_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/limits.h"
#include "model/chat_template.h"
#include "model/side_file.h"

namespace phiq {
namespace {

constexpr std::string_view kTokenizerModel = "tokenizer.model";
constexpr std::string_view kJinja = "chat_template.jinja";
constexpr std::array<std::string_view, 9> kTokenizerFiles = {
    kTokenizerJson,      kTokenizerConfig, kTokenizerModel,      "special_tokens_map.json",
    "added_tokens.json", kJinja,           "chat_template.json", "vocab.json",
    "merges.txt"};

std::uint64_t LimitOf(std::string_view name) {
  if (name == kTokenizerJson || name == "vocab.json" || name == "merges.txt")
    return limits::kTokenizerJsonBytes;
  return name == kTokenizerModel ? limits::kTokenizerModelBytes : limits::kConfigBytes;
}

}  // namespace

std::span<const std::string_view> TokenizerFileNames() noexcept { return kTokenizerFiles; }

std::vector<SideFile> ReadTokenizerFiles(const SideFiles& source,
                                         std::span<const std::string_view> needed,
                                         std::string_view runtime) {
  std::vector<SideFile> files;
  const auto missing = [&](std::string_view name) {
    return Error(ErrorCode::kInput, fmt::format("not found, and {} needs it", runtime))
        .In(source.PathOf(name).string())
        .Hint("save the tokenizer with transformers, or fetch the file; --tokenizer FOLDER takes "
              "it from another folder");
  };
  for (const std::string_view name : kTokenizerFiles) {
    std::optional<std::string> content = source.ReadFile(name, LimitOf(name));
    if (content) {
      if (name == kJinja) content = WithPlainLineEnds(*std::move(content));
      if (name == kTokenizerConfig)
        content = PortableJson(*std::move(content), SidePath(source, name));
      files.push_back({std::string(name), BytesOf(*content)});
    } else if (std::ranges::find(needed, name) != needed.end()) {
      throw missing(name);
    }
  }
  // A file of weights alone; a checkpoint has one of the two.
  const auto is_vocabulary = [](const SideFile& file) {
    return file.name == kTokenizerJson || file.name == kTokenizerModel;
  };
  if (std::ranges::none_of(files, is_vocabulary)) throw missing(kTokenizerJson);
  return files;
}

Tokenizer ReadTokenizerBeside(const std::filesystem::path& folder, const ModelConfig& config,
                              const WarningFn& warn) {
  return ReadTokenizer(LocateCheckpoint(folder.native(), warn), config.vocab_size,
                       config.bos_token_id, config.eos_token_id, config.pad_token_id, warn);
}

}  // namespace phiq
