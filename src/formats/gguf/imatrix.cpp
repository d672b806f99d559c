// Reads importance matrices of either form, trusting nothing in them, and writes both.
#include "formats/gguf/imatrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"
#include "formats/gguf/header.h"
#include "formats/gguf/header_reader.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/reader.h"
#include "formats/gguf/source.h"
#include "formats/gguf/tensor_names.h"
#include "io/input_file.h"
#include "model/weights.h"
#include "phiq/text.h"

namespace phiq::gguf {
namespace {

constexpr std::string_view kTypeKey = "general.type";
constexpr std::string_view kType = "imatrix";
constexpr std::string_view kDatasetsKey = "imatrix.datasets";
constexpr std::string_view kChunkCountKey = "imatrix.chunk_count";
constexpr std::string_view kChunkSizeKey = "imatrix.chunk_size";
constexpr std::string_view kSumsEnding = ".in_sum2";
constexpr std::string_view kCountsEnding = ".counts";

// Squares above this overflow in the searches that they weight.
constexpr float kLargestSquare = 1e30F;

// Collects what a file has of the weights of one model.
class Collector {
 public:
  Collector(std::string path, const Model& model, const WarningFn& warn)
      : path_(std::move(path)), warn_(warn) {
    for (const ModelTensor& tensor : model.tensors) {
      if (StaysFloat(tensor.role)) continue;
      const WeightId id{tensor.role, tensor.layer};
      const WeightShape shape = ShapeOf(model.config, tensor.role);
      wanted_.emplace(TensorName(id), Weight{id, shape.row_elements, shape.n_matrices});
    }
  }

  Error BadData(std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message)).In(path_);
  }

  // Counts an entry. False: it is of no weight of the model, and what it says is not looked at.
  bool Count(const std::string& name, std::uint64_t n_values) {
    if (!seen_.insert(name).second) throw BadData("duplicate entry").Tensor(name);
    ++result_.n_entries;
    const auto found = wanted_.find(name);
    if (found == wanted_.end()) {
      if (n_unknown_++ == 0) first_unknown_ = name;
      return false;
    }
    const Weight& weight = found->second;
    if (n_values != weight.n_columns * weight.n_matrices) {
      throw BadData(fmt::format("has {} values, the model's weight has {} columns{}", n_values,
                                weight.n_columns,
                                weight.n_matrices == 1
                                    ? ""
                                    : fmt::format(" for each of {} experts", weight.n_matrices)))
          .Tensor(name)
          .Hint("an importance matrix serves the model that it was made from");
    }
    return true;
  }

  // How many matrices the weight has of which this is an entry: one for each expert.
  // Requires  Count gave true, here and below.
  std::size_t CountMatrices(const std::string& name) const { return wanted_.at(name).n_matrices; }

  // What was summed of each matrix, over so many tokens.
  void AddSums(const std::string& name, std::span<const float> sums,
               std::span<const float> counts) {
    Add(name, sums, [&](std::size_t matrix, std::span<float> values) {
      // llama-quantize rounds the count, and takes 1 for what nothing was summed of.
      const float count = std::round(counts[matrix]);
      for (float& value : values) value = count > 0 ? value / count : 1;
    });
  }

  // Means times a number of chunks, 0: means.
  void AddMeans(const std::string& name, std::span<const float> means, float n_chunks) {
    Add(name, means, [&](std::size_t, std::span<float> values) {
      if (n_chunks > 0)
        for (float& value : values) value /= n_chunks;
    });
  }

  Importance& result() noexcept { return result_; }

  Importance Finish() && {
    if (result_.squares.empty() && n_zero_ == 0) {
      throw BadData(fmt::format("has none of the model's weights; its first entry is '{}'",
                                Escape(first_unknown_)))
          .Hint("an importance matrix serves the model that it was made from");
    }
    WarnOfMissing();
    if (n_zero_ > 0) {
      Say(fmt::format("{} of its entries are all zeros, the first is '{}': quantized as without it",
                      n_zero_, Escape(first_zero_)));
    }
    if (n_unknown_ > 0) {
      Say(fmt::format("{} of its {} entries are of no weight of this model, the first is '{}'",
                      n_unknown_, result_.n_entries, Escape(first_unknown_)));
    }
    return std::move(result_);
  }

 private:
  struct Weight {
    WeightId id;
    std::uint64_t n_columns = 0, n_matrices = 1;
  };

  static bool IsZero(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return value == 0; });
  }

  // make_means(matrix, values): what the entry has of a matrix becomes means.
  template <typename MakeMeans>
  void Add(const std::string& name, std::span<const float> all, const MakeMeans& make_means) {
    const Weight& weight = wanted_.at(name);
    std::vector<float> means(all.begin(), all.end());
    const auto of_matrix = [&](std::size_t m) {
      return std::span(means).subspan(m * weight.n_columns, weight.n_columns);
    };
    for (std::size_t m = 0; m < weight.n_matrices; ++m) {
      make_means(m, of_matrix(m));
      RequireSquares(name, of_matrix(m));
    }
    if (IsZero(means)) {
      if (n_zero_++ == 0) first_zero_ = name;
      return;
    }
    for (std::size_t m = 0; m < weight.n_matrices; ++m) {
      WeightId id = weight.id;
      if (weight.n_matrices > 1) id.expert = static_cast<std::int32_t>(m);
      const std::span<float> own = of_matrix(m);
      if (IsZero(own)) std::ranges::fill(own, 1.0F);  // of one expert among others: nothing
      result_.squares.emplace(id, std::vector<float>(own.begin(), own.end()));
    }
  }

  void RequireSquares(const std::string& name, std::span<const float> values) const {
    for (std::size_t k = 0; k < values.size(); ++k) {
      const float value = values[k];
      if (value >= 0 && value < kLargestSquare) continue;
      const ErrorCode code = std::isfinite(value) ? ErrorCode::kBadData : ErrorCode::kNumeric;
      throw Error(code, fmt::format("column {} has the mean square {}, allowed are 0 to {:g}", k,
                                    value, kLargestSquare))
          .In(path_)
          .Tensor(name);
    }
  }

  // llama-imatrix leaves the embedding out, and the head too when it is not asked for it.
  void WarnOfMissing() const {
    std::size_t n = 0;
    std::string first;
    for (const auto& [name, weight] : wanted_) {
      if (weight.id.layer < 0 || seen_.contains(name)) continue;
      if (n++ == 0) first = name;
    }
    if (n == 0) return;
    Say(fmt::format("has nothing of {} of the weights, the first is '{}': quantized as without it",
                    n, first));
  }

  void Say(std::string_view what) const {
    if (warn_) warn_({ErrorCode::kBadData, fmt::format("{}: {}", Escape(path_), what)});
  }

  std::string path_;
  const WarningFn& warn_;
  std::map<std::string, Weight> wanted_;  // by llama.cpp's names
  std::unordered_set<std::string> seen_;
  std::uint64_t n_unknown_ = 0, n_zero_ = 0;
  std::string first_unknown_, first_zero_;
  Importance result_;
};

// --- the GGUF form ---

// A key that every such file has.
template <typename T>
const T& Required(const Metadata& metadata, std::string_view key, const Collector& collector) {
  const Value* const value = Find(metadata, key);
  if (value == nullptr) {
    throw collector.BadData(fmt::format("no importance matrix: there is no key '{}'", key))
        .Hint("llama-imatrix makes them");
  }
  const T* const content = std::get_if<T>(value);
  if (content == nullptr) {
    throw collector.BadData(
        fmt::format("key '{}' has type {}{}", key, TypeName(TypeOf(*value)),
                    TypeOf(*value) == ValueType::kArray ? " of another type" : ""));
  }
  return *content;
}

std::vector<float> ReadFloats(const InputFile& file, const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.size_bytes / sizeof(float)));
  file.ReadAt(tensor.offset_bytes, std::as_writable_bytes(std::span(values)));
  return values;
}

// The two tensors of a weight.
struct Pair {
  const Tensor* sums = nullptr;
  const Tensor* counts = nullptr;
};

std::map<std::string, Pair> PairsOf(const std::vector<Tensor>& tensors) {
  std::map<std::string, Pair> pairs;
  for (const Tensor& tensor : tensors) {
    const auto name_before = [&](std::string_view ending) {
      return tensor.name.substr(0, tensor.name.size() - ending.size());
    };
    if (tensor.name.ends_with(kSumsEnding)) pairs[name_before(kSumsEnding)].sums = &tensor;
    if (tensor.name.ends_with(kCountsEnding)) pairs[name_before(kCountsEnding)].counts = &tensor;
  }
  return pairs;
}

std::uint64_t NumberOf(const Tensor& tensor) { return tensor.size_bytes / sizeof(float); }

void ReadPair(const InputFile& file, const std::string& name, const Pair& pair,
              Collector& collector) {
  if (pair.sums == nullptr || pair.counts == nullptr) {
    throw collector
        .BadData(fmt::format("has no '{}'", pair.sums == nullptr ? kSumsEnding : kCountsEnding))
        .Tensor(name);
  }
  for (const Tensor* tensor : {pair.sums, pair.counts}) {
    if (tensor->type == GgmlType::kF32) continue;
    throw collector
        .BadData(fmt::format("has type {}, allowed is F32", GetGgmlTypeInfo(tensor->type).name))
        .Tensor(tensor->name);
  }
  if (!collector.Count(name, NumberOf(*pair.sums))) return;
  const std::size_t n_matrices = collector.CountMatrices(name);
  if (NumberOf(*pair.counts) != n_matrices) {
    throw collector
        .BadData(fmt::format("has {} counts, the model's weight is {}", NumberOf(*pair.counts),
                             n_matrices == 1 ? "one matrix"
                                             : fmt::format("{} matrices", n_matrices)))
        .Tensor(name);
  }
  const std::vector<float> counts = ReadFloats(file, *pair.counts);
  for (const float count : counts)
    if (!(count >= 0 && count < kLargestSquare))
      throw collector.BadData(fmt::format("counts {} tokens", count)).Tensor(name);
  collector.AddSums(name, ReadFloats(file, *pair.sums), counts);
}

void ReadTensorForm(const InputFile& file, const WarningFn& warn, Collector& collector) {
  const Header header = ReadHeader(file, warn);
  const auto& datasets =
      Required<std::vector<std::string>>(header.metadata, kDatasetsKey, collector);
  collector.result().datasets = datasets;
  collector.result().n_chunks = Required<std::uint32_t>(header.metadata, kChunkCountKey, collector);
  Required<std::uint32_t>(header.metadata, kChunkSizeKey, collector);
  for (const auto& [name, pair] : PairsOf(header.tensors)) ReadPair(file, name, pair, collector);
}

// --- the form before it ---

// Length of a name, count, number of values: what an entry has at least, with an empty name and
// one value.
constexpr std::uint64_t kLeastEntryBytes = 4 + 4 + 4 + 4;

std::string ReadShortString(Source& source, std::string_view what) {
  const auto length = source.Read<std::int32_t>(what);
  if (length < 0 || static_cast<std::uint64_t>(length) > source.remaining_bytes()) {
    throw source.BadData(
        fmt::format("{} has {} bytes but {} are left", what, length, source.remaining_bytes()));
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  source.ReadBytes(std::as_writable_bytes(std::span(text)), what);
  return text;
}

void ReadEntry(Source& source, std::int32_t number, Collector& collector) {
  const std::string name = ReadShortString(source, fmt::format("the name of entry {}", number));
  const std::string what = fmt::format("entry '{}'", Escape(name));
  const auto n_calls = source.Read<std::int32_t>(what);
  const auto n_values = source.Read<std::int32_t>(what);
  if (n_values < 1 ||
      static_cast<std::uint64_t>(n_values) > source.remaining_bytes() / sizeof(float)) {
    throw source.BadData(fmt::format("{} has {} values but {} bytes are left", what, n_values,
                                     source.remaining_bytes()));
  }
  if (n_calls < 0) throw source.BadData(fmt::format("{} counts {} chunks", what, n_calls));
  const std::uint64_t n_bytes = static_cast<std::uint64_t>(n_values) * sizeof(float);
  if (!collector.Count(name, static_cast<std::uint64_t>(n_values))) {
    source.Skip(n_bytes, what);
    return;
  }
  std::vector<float> sums(static_cast<std::size_t>(n_values));
  source.ReadBytes(std::as_writable_bytes(std::span(sums)), what);
  collector.AddMeans(name, sums, static_cast<float>(n_calls));
}

void ReadDatForm(const InputFile& file, Collector& collector) {
  Source source(file);
  const Error no_matrix =
      collector.BadData("no importance matrix").Hint("llama-imatrix makes them");
  if (source.remaining_bytes() < sizeof(std::int32_t)) throw no_matrix;
  const auto n_entries = source.Read<std::int32_t>("the number of entries");
  if (n_entries < 1 ||
      static_cast<std::uint64_t>(n_entries) > source.remaining_bytes() / kLeastEntryBytes)
    throw no_matrix;
  for (std::int32_t i = 0; i < n_entries; ++i) ReadEntry(source, i, collector);
  // Older files end here.
  if (source.remaining_bytes() == 0) return;
  const auto n_chunks = source.Read<std::int32_t>("the number of chunks");
  collector.result().n_chunks = n_chunks < 0 ? 0 : static_cast<std::uint64_t>(n_chunks);
  if (source.remaining_bytes() == 0) return;
  if (std::string dataset = ReadShortString(source, "the dataset's name"); !dataset.empty())
    collector.result().datasets.push_back(std::move(dataset));
}

// --- writing ---

template <typename T>
void Put(std::vector<std::byte>& bytes, const T& value) {
  static_assert(std::endian::native == std::endian::little);
  const std::span<const std::byte> more = std::as_bytes(std::span(&value, 1));
  bytes.insert(bytes.end(), more.begin(), more.end());
}

void PutText(std::vector<std::byte>& bytes, std::string_view text) {
  Put(bytes, static_cast<std::int32_t>(text.size()));
  const std::span<const std::byte> more = std::as_bytes(std::span(text));
  bytes.insert(bytes.end(), more.begin(), more.end());
}

// What is known of a weight's inputs, expert by expert where it has several. By name, as
// llama-imatrix sorts them.
using Sorted = std::map<std::string, std::vector<const InputSquares*>>;

std::uint64_t MostTokens(std::span<const InputSquares* const> matrices) {
  std::uint64_t most = 0;
  for (const InputSquares* input : matrices) most = std::max(most, input->n_tokens);
  return most;
}

std::uint64_t ChunksOf(const Sorted& entries, std::uint32_t chunk_size) {
  std::uint64_t most = 0;
  for (const auto& [name, matrices] : entries) most = std::max(most, MostTokens(matrices));
  return most / chunk_size;
}

std::vector<std::byte> EncodeTensorForm(const Sorted& entries,
                                        std::span<const std::string> datasets,
                                        std::uint32_t chunk_size) {
  const Metadata metadata = {
      {std::string(kTypeKey), std::string(kType)},
      {std::string(kDatasetsKey), std::vector<std::string>(datasets.begin(), datasets.end())},
      {std::string(kChunkCountKey), static_cast<std::uint32_t>(ChunksOf(entries, chunk_size))},
      {std::string(kChunkSizeKey), chunk_size},
  };
  std::vector<TensorInfo> tensors;
  std::uint64_t offset_bytes = 0;
  const auto place = [&](std::string name, std::uint64_t n, std::uint64_t n_matrices) {
    std::vector<std::uint64_t> shape = {n};
    if (n_matrices > 1) shape.push_back(n_matrices);
    tensors.push_back({std::move(name), std::move(shape), GgmlType::kF32, offset_bytes});
    offset_bytes = AlignUp(offset_bytes + n * n_matrices * sizeof(float), kAlignment).value();
  };
  for (const auto& [name, matrices] : entries) {
    place(name + std::string(kSumsEnding), matrices.front()->sums.size(), matrices.size());
    place(name + std::string(kCountsEnding), 1, matrices.size());
  }
  std::vector<std::byte> bytes = EncodeHeader(metadata, tensors);
  const auto pad = [&] { bytes.resize(AlignUp(bytes.size(), kAlignment).value()); };
  for (const auto& [name, matrices] : entries) {
    for (const InputSquares* input : matrices) {
      const std::span<const std::byte> sums = std::as_bytes(std::span(input->sums));
      bytes.insert(bytes.end(), sums.begin(), sums.end());
    }
    pad();
    for (const InputSquares* input : matrices) Put(bytes, static_cast<float>(input->n_tokens));
    pad();
  }
  return bytes;
}

std::vector<std::byte> EncodeDatForm(const Sorted& entries, std::span<const std::string> datasets,
                                     std::uint32_t chunk_size) {
  std::vector<std::byte> bytes;
  Put(bytes, static_cast<std::int32_t>(entries.size()));
  for (const auto& [name, matrices] : entries) {
    PutText(bytes, name);
    // At least 1: a reader that divides by it must find something. One number for all experts.
    const auto n_calls =
        static_cast<std::int32_t>((MostTokens(matrices) + chunk_size - 1) / chunk_size);
    Put(bytes, n_calls);
    Put(bytes, static_cast<std::int32_t>(matrices.size() * matrices.front()->sums.size()));
    for (const InputSquares* input : matrices)
      for (const float sum : input->sums) {
        const float mean = input->n_tokens > 0 ? sum / static_cast<float>(input->n_tokens) : 1;
        Put(bytes, mean * static_cast<float>(n_calls));
      }
  }
  Put(bytes, static_cast<std::int32_t>(ChunksOf(entries, chunk_size)));
  PutText(bytes, datasets.empty() ? std::string_view() : std::string_view(datasets.back()));
  return bytes;
}

}  // namespace

Importance ReadImatrix(const std::string& path, const Model& model, const WarningFn& warn) {
  const WarningFn say = WarnOrIgnore(warn);
  const InputFile file(path);
  Collector collector(path, model, say);
  if (LooksLikeGguf(path)) {
    ReadTensorForm(file, say, collector);
  } else {
    ReadDatForm(file, collector);
  }
  file.CheckUnchanged();
  return std::move(collector).Finish();
}

std::vector<std::byte> EncodeImatrix(ImportanceForm form, std::span<const InputSquares> inputs,
                                     std::span<const std::string> datasets,
                                     std::uint32_t chunk_size) {
  Sorted entries;
  for (const InputSquares& input : inputs) {
    const std::string name = TensorName({input.weight.role, input.weight.layer});
    const auto bad = std::ranges::find_if_not(
        input.sums, [](float sum) { return std::isfinite(sum) && sum >= 0; });
    if (bad != input.sums.end()) {
      throw Error(ErrorCode::kNumeric, fmt::format("the squares of input {} sum up to {}",
                                                   bad - input.sums.begin(), *bad))
          .Tensor(name);
    }
    entries[name].push_back(&input);
  }
  for (const auto& [name, matrices] : entries)
    if (MostTokens(matrices) == 0 || chunk_size == 0)
      throw Error(ErrorCode::kInternal, "sums over no tokens").Tensor(name);
  return form == ImportanceForm::kTensors ? EncodeTensorForm(entries, datasets, chunk_size)
                                          : EncodeDatForm(entries, datasets, chunk_size);
}

}  // namespace phiq::gguf
