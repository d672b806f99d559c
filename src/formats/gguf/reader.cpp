// Opens a GGUF file or all parts of a split one, and checks how they fit together.
#include "formats/gguf/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_set>
#include <utility>

#include "base/limits.h"
#include "formats/gguf/header_reader.h"
#include "phiq/text.h"

namespace phiq::gguf {
namespace {

struct SplitPlace {
  std::uint16_t no = 0;
  std::uint16_t count = 0;
  std::int32_t n_tensors = 0;
};

Error BadPart(const InputFile& file, std::string message) {
  return Error(ErrorCode::kBadData, std::move(message)).In(file.path().string());
}

template <typename T>
T SplitValue(const InputFile& file, const Metadata& metadata, std::string_view key) {
  const Value* const value = Find(metadata, key);
  if (value == nullptr) throw BadPart(file, fmt::format("part of a split file without '{}'", key));
  const T* const typed = std::get_if<T>(value);
  if (typed == nullptr) {
    throw BadPart(file, fmt::format("'{}' is {}, allowed is {}", key, TypeName(TypeOf(*value)),
                                    TypeName(ScalarType<T>())));
  }
  return *typed;
}

// nullopt: the file is whole. llama.cpp counts 0 and 1 parts as whole too.
std::optional<SplitPlace> FindSplitPlace(const InputFile& file, const Metadata& metadata) {
  if (Find(metadata, "split.count") == nullptr) return std::nullopt;
  SplitPlace place;
  place.count = SplitValue<std::uint16_t>(file, metadata, "split.count");
  if (place.count <= 1) return std::nullopt;
  place.no = SplitValue<std::uint16_t>(file, metadata, "split.no");
  place.n_tensors = SplitValue<std::int32_t>(file, metadata, "split.tensors.count");
  if (place.count > limits::kShards) {
    throw BadPart(
        file, fmt::format("split.count is {}, allowed are {} parts", place.count, limits::kShards));
  }
  if (place.no >= place.count) {
    throw BadPart(file, fmt::format("split.no is {} but split.count is {}", place.no, place.count));
  }
  return place;
}

std::string PartSuffix(std::size_t no, std::size_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", no + 1, count);
}

// Adds a part's tensors; names must be new.
void Append(const InputFile& file, std::vector<Tensor> tensors, std::size_t part,
            std::unordered_set<std::string>& names, std::vector<Tensor>& out) {
  for (Tensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      throw BadPart(file, fmt::format("part {}: the name is in another part too", part + 1))
          .Tensor(tensor.name);
    }
    tensor.part = part;
    out.push_back(std::move(tensor));
  }
}

std::size_t ArrayLength(const Value& value) {
  return std::visit(
      []<typename T>(const T& content) -> std::size_t {
        if constexpr (kIsArray<T>) {
          return content.size();
        } else {
          return 0;
        }
      },
      value);
}

// A vocabulary that no runtime can use is not a broken container: say so and go on.
void CheckTokenizer(const std::filesystem::path& path, const Metadata& metadata,
                    const WarningFn& warn) {
  const auto say = [&](const std::string& text) {
    warn({ErrorCode::kBadData, fmt::format("{}: {}", Escape(path.string()), text)});
  };
  const Value* const tokens = Find(metadata, "tokenizer.ggml.tokens");
  if (tokens == nullptr) return;
  const std::size_t n_tokens = ArrayLength(*tokens);
  for (const std::string_view key : {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
    const Value* const array = Find(metadata, key);
    if (array != nullptr && ArrayLength(*array) != n_tokens) {
      say(fmt::format("'{}' has {} entries but 'tokenizer.ggml.tokens' has {}", key,
                      ArrayLength(*array), n_tokens));
    }
  }
  const Value* const types = Find(metadata, "tokenizer.ggml.token_type");
  const auto* const type_codes =
      types == nullptr ? nullptr : std::get_if<std::vector<std::int32_t>>(types);
  if (type_codes != nullptr) {
    const auto bad = std::find_if(type_codes->begin(), type_codes->end(),
                                  [](std::int32_t t) { return t < 1 || t > 6; });
    if (bad != type_codes->end()) {
      say(fmt::format("'tokenizer.ggml.token_type' of token {} is {}, allowed are 1 to 6",
                      bad - type_codes->begin(), *bad));
    }
  }
  const Value* const model = Find(metadata, "tokenizer.ggml.model");
  const auto* const model_name = model == nullptr ? nullptr : std::get_if<std::string>(model);
  if (model_name == nullptr) return;
  if (*model_name == "llama" && Find(metadata, "tokenizer.ggml.scores") == nullptr) {
    say("'tokenizer.ggml.scores' is missing, a 'llama' tokenizer needs it");
  }
  if (*model_name == "gpt2" && Find(metadata, "tokenizer.ggml.merges") == nullptr) {
    say("'tokenizer.ggml.merges' is missing, a 'gpt2' tokenizer needs it");
  }
}

void EraseSplitKeys(Metadata& metadata) {
  std::erase_if(metadata, [](const auto& record) {
    return record.first == "split.no" || record.first == "split.count" ||
           record.first == "split.tensors.count";
  });
}

}  // namespace

File File::Open(const std::filesystem::path& path, const WarningFn& warn) {
  InputFile named(path);
  Header named_header = ReadHeader(named, warn);
  const std::optional<SplitPlace> named_place = FindSplitPlace(named, named_header.metadata);

  File file;
  std::unordered_set<std::string> names;
  if (!named_place) {
    file.metadata_ = std::move(named_header.metadata);
    Append(named, std::move(named_header.tensors), 0, names, file.tensors_);
    file.parts_.push_back(std::move(named));
  } else {
    const std::string name = path.string();
    const std::string suffix = PartSuffix(named_place->no, named_place->count);
    if (!name.ends_with(suffix)) {
      throw BadPart(named,
                    fmt::format("split.no is {} and split.count {}, so the name should end in {}",
                                named_place->no, named_place->count, suffix));
    }
    const std::string prefix = name.substr(0, name.size() - suffix.size());
    for (std::uint16_t i = 0; i < named_place->count; ++i) {
      InputFile part(prefix + PartSuffix(i, named_place->count));
      Header header = ReadHeader(part, warn);
      const std::optional<SplitPlace> place = FindSplitPlace(part, header.metadata);
      if (!place || place->no != i || place->count != named_place->count ||
          place->n_tensors != named_place->n_tensors) {
        throw BadPart(
            part,
            fmt::format(
                "part {}: split.no, split.count and split.tensors.count should be {}, {} and {}",
                i + 1, i, named_place->count, named_place->n_tensors));
      }
      Append(part, std::move(header.tensors), i, names, file.tensors_);
      if (file.tensors_.size() > limits::kGgufEntries) {
        throw BadPart(
            part, fmt::format("part {}: more than {} tensors in all", i + 1, limits::kGgufEntries));
      }
      if (i == 0) file.metadata_ = std::move(header.metadata);
      file.parts_.push_back(std::move(part));
    }
    if (std::cmp_not_equal(file.tensors_.size(), named_place->n_tensors)) {
      throw BadPart(named, fmt::format("split.tensors.count is {} but the parts hold {} tensors",
                                       named_place->n_tensors, file.tensors_.size()));
    }
  }
  EraseSplitKeys(file.metadata_);
  CheckTokenizer(path, file.metadata_, warn);
  return file;
}

const Tensor* File::FindTensor(std::string_view name) const noexcept {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                  [&](const Tensor& t) { return t.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

void File::Read(const Tensor& tensor, std::uint64_t offset_bytes, std::span<std::byte> out) const {
  if (offset_bytes > tensor.size_bytes || out.size() > tensor.size_bytes - offset_bytes) {
    throw Error(ErrorCode::kInternal, "read outside of a tensor").Tensor(tensor.name);
  }
  parts_[tensor.part].ReadAt(tensor.offset_bytes + offset_bytes, out);
}

void File::ReadRows(const Tensor& tensor, std::uint64_t first_row, std::uint64_t n_rows,
                    RowCodec& codec, std::span<float> out) const {
  const std::size_t row_bytes = GgmlRowBytes(tensor.type, tensor.shape.back());
  std::vector<std::byte> encoded(n_rows * row_bytes);
  Read(tensor, first_row * row_bytes, encoded);
  // Rows are whole blocks and stand one behind the other.
  const std::array<std::span<const std::byte>, 1> rows = {encoded};
  codec.Decode(tensor.type, rows, out);
}

bool LooksLikeGguf(const std::filesystem::path& path) {
  try {
    const InputFile file(path);
    std::array<std::byte, 4> magic{};
    if (file.size() < magic.size()) return false;
    file.ReadAt(0, magic);
    return std::memcmp(magic.data(), "GGUF", magic.size()) == 0;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace phiq::gguf
