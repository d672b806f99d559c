// FlatBuffers' own verifier comes first: behind it every offset inside of a flatbuffer is sound,
// and what numbers say is still to be checked. Vectors may be shared by many tables, so none that
// several may name is walked as a whole but those whose elements are tables, which the verifier
// counts.
#include "formats/litert/reader.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/checked.h"
#include "base/endian.h"
#include "base/limits.h"
#include "formats/litert/bundle_generated.h"
#include "formats/litert/limits.h"
#include "phiq/text.h"

namespace phiq::litert {
namespace {

namespace fb = flatbuffers;
using tflite::TensorType;

constexpr fb::uoffset_t kDepth = 16;         // tables in tables: the schemas need 5
constexpr std::uint64_t kSmallBytes = 4096;  // inline constants up to it are no weights

std::string TextOf(const fb::String* text) { return text == nullptr ? "" : text->str(); }

std::string_view TypeName(TensorType type) {
  const char* name = tflite::EnumNameTensorType(type);
  return name == nullptr || *name == '\0' ? "unknown" : name;
}

std::uint64_t Dim(std::int32_t dim) { return static_cast<std::uint64_t>(dim); }

// Where a buffer's bytes lie: inside of the flatbuffer, or behind it; nothing.
std::optional<Place> PlaceOf(const tflite::Buffer& buffer, std::span<const std::byte> flatbuffer) {
  if (buffer.data() != nullptr && buffer.data()->size() > 0) {
    const auto* data = reinterpret_cast<const std::byte*>(buffer.data()->data());
    return Place{static_cast<std::uint64_t>(data - flatbuffer.data()), buffer.data()->size()};
  }
  if (buffer.size() == 0) return std::nullopt;
  return Place{buffer.offset(), buffer.size()};
}

}  // namespace

std::uint64_t StoredTensor::SizeBytes() const noexcept {
  std::uint64_t sum = 0;
  for (const Place& place : arrays) sum += place.size_bytes;
  return sum;
}

Error File::Bad(std::uint64_t offset_bytes, std::string message) const {
  return Error(ErrorCode::kBadData, std::move(message)).In(path()).At(offset_bytes);
}

File File::Open(const std::filesystem::path& path) {
  File file{InputFile(path)};
  std::array<std::byte, kBundleMagic.size()> magic{};
  if (file.file_.size() >= magic.size()) file.file_.ReadAt(0, magic);
  file.model_ = {0, file.file_.size()};
  if (std::ranges::equal(magic, std::as_bytes(std::span(kBundleMagic)))) file.ReadBundleHeader();
  file.ReadFlatbuffer();
  file.ReadMetadata();
  file.FindTensors();
  return file;
}

void File::ReadBundleHeader() {
  if (file_.size() < kHeaderBegin)
    throw Bad(0, fmt::format("the file has {} bytes, the header of a bundle needs {}", file_.size(),
                             kHeaderBegin));
  std::array<std::byte, kHeaderBegin> begin;
  file_.ReadAt(0, begin);
  const auto version = LoadLe<std::uint32_t>(begin, 8);
  if (version != kBundleVersion) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("is a bundle of version {}, supported is {}", version, kBundleVersion))
        .In(path());
  }
  const auto end = LoadLe<std::uint64_t>(begin, 24);
  const std::uint64_t most =
      std::min(file_.size(), kHeaderBegin + limits::kLiteRtBundleHeaderBytes);
  if (end <= kHeaderBegin || end > most)
    throw Bad(24, fmt::format("the header ends at byte {}, allowed are {} to {}", end,
                              kHeaderBegin + 1, most));
  std::vector<std::byte> bytes(static_cast<std::size_t>(end - kHeaderBegin));
  file_.ReadAt(kHeaderBegin, bytes);
  fb::Verifier verifier(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), kDepth,
                        limits::kLiteRtBundleTables);
  if (!bundle::VerifyHeaderBuffer(verifier))
    throw Bad(kHeaderBegin, "the bundle's header is damaged");
  const bundle::Header& header = *bundle::GetHeader(bytes.data());
  const auto* objects =
      header.section_metadata() == nullptr ? nullptr : header.section_metadata()->objects();
  const std::size_t n_sections = objects == nullptr ? 0 : objects->size();
  for (std::size_t i = 0; i < n_sections; ++i) {
    const bundle::SectionObject& object = *objects->Get(static_cast<fb::uoffset_t>(i));
    Section section;
    section.type = static_cast<SectionType>(object.data_type());
    section.begin = object.begin_offset();
    section.end = object.end_offset();
    if (section.begin < end || section.begin > section.end || section.end > file_.size()) {
      throw Bad(kHeaderBegin,
                fmt::format("section {} goes from byte {} to {}, allowed are {} to {}", i,
                            section.begin, section.end, end, file_.size()));
    }
    sections_.push_back(std::move(section));
  }
  const auto is_model = [](const Section& s) { return s.type == SectionType::kTfLiteModel; };
  if (const auto n_models = std::ranges::count_if(sections_, is_model); n_models != 1) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("is a bundle of {} models, phiq reads those of one", n_models))
        .In(path());
  }
  const Section& model = *std::ranges::find_if(sections_, is_model);
  model_ = {model.begin, model.end - model.begin};
}

const Section* File::FindSection(SectionType type) const noexcept {
  const auto found = std::ranges::find(sections_, type, &Section::type);
  return found == sections_.end() ? nullptr : &*found;
}

std::string File::ReadSection(const Section& section, std::uint64_t max_bytes) const {
  const std::uint64_t size_bytes = section.end - section.begin;
  if (size_bytes > max_bytes)
    throw Bad(section.begin,
              fmt::format("a section has {} bytes, allowed are {}", size_bytes, max_bytes));
  std::string bytes(static_cast<std::size_t>(size_bytes), '\0');
  file_.ReadAt(section.begin, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

// The file does not say where its flatbuffer ends: what lies behind it does.
void File::ReadFlatbuffer() {
  flatbuffer_.resize(
      static_cast<std::size_t>(std::min(model_.size_bytes, limits::kLiteRtFlatbufferBytes)));
  file_.ReadAt(model_.offset_bytes, flatbuffer_);
  const auto is_sound = [&] {
    fb::Verifier verifier(reinterpret_cast<const std::uint8_t*>(flatbuffer_.data()),
                          flatbuffer_.size(), kDepth, limits::kLiteRtTables);
    return tflite::VerifyModelBuffer(verifier);
  };
  const auto damaged = [&] {
    return Bad(model_.offset_bytes,
               model_.size_bytes > limits::kLiteRtFlatbufferBytes
                   ? fmt::format("the model's flatbuffer is damaged, or larger than {} bytes",
                                 limits::kLiteRtFlatbufferBytes)
                   : std::string("the model's flatbuffer is damaged"));
  };
  if (flatbuffer_.size() < 8 || !tflite::ModelBufferHasIdentifier(flatbuffer_.data()))
    throw Bad(model_.offset_bytes, "is no LiteRT model: 'TFL3' does not stand at byte 4");
  if (!is_sound()) throw damaged();
  std::uint64_t end = flatbuffer_.size();
  if (const auto* buffers = model().buffers(); buffers != nullptr) {
    for (const tflite::Buffer* buffer : *buffers) {
      if (buffer->size() == 0) continue;
      const std::optional<std::uint64_t> last = CheckedAdd(buffer->offset(), buffer->size());
      if (!last || *last > model_.size_bytes) {
        throw Bad(model_.offset_bytes,
                  fmt::format("a buffer of {} bytes lies at byte {} of a model of {}",
                              buffer->size(), buffer->offset(), model_.size_bytes));
      }
      end = std::min(end, buffer->offset());
    }
  }
  flatbuffer_.resize(static_cast<std::size_t>(end));
  flatbuffer_.shrink_to_fit();
  if (flatbuffer_.size() < 8 || !is_sound())
    throw Bad(model_.offset_bytes, "a buffer lies inside of the model's flatbuffer");
}

void File::ReadMetadata() {
  const auto* entries = model().metadata();
  if (entries == nullptr) return;
  std::uint64_t n_bytes = 0;
  for (const tflite::Metadata* entry : *entries) {
    if (model().buffers() == nullptr || entry->buffer() >= model().buffers()->size()) continue;
    const tflite::Buffer& buffer = *model().buffers()->Get(entry->buffer());
    if (buffer.data() == nullptr) continue;
    n_bytes += buffer.data()->size();  // entries may share a buffer
    if (n_bytes > limits::kConfigBytes || metadata_.size() >= limits::kLiteRtMetadata) {
      throw Bad(model_.offset_bytes,
                fmt::format("the metadata have more than {} entries or {} bytes",
                            limits::kLiteRtMetadata, limits::kConfigBytes));
    }
    const auto* text = reinterpret_cast<const char*>(buffer.data()->data());
    metadata_.emplace_back(TextOf(entry->name()), std::string(text, buffer.data()->size()));
  }
}

const std::string* File::FindMetadata(std::string_view name) const noexcept {
  const auto found =
      std::ranges::find(metadata_, name, [](const auto& entry) { return entry.first; });
  return found == metadata_.end() ? nullptr : &found->second;
}

namespace {

// A constant tensor of one of the subgraphs.
class TensorReader {
 public:
  TensorReader(const tflite::Model& model, std::span<const std::byte> flatbuffer,
               std::uint64_t model_begin)
      : buffers_(*model.buffers()), flatbuffer_(flatbuffer), model_begin_(model_begin) {}

  StoredTensor Read(const tflite::SubGraph& graph, const tflite::Tensor& tensor,
                    const Place& codes) const {
    StoredTensor made;
    made.name = TextOf(tensor.name());
    made.type = TypeName(tensor.type());
    made.arrays = {InFile(codes)};
    const auto* shape = tensor.shape();
    const std::size_t n_dims = shape == nullptr ? 0 : shape->size();
    const auto refuse = [&](std::string why) {
      made.refusal = std::move(why);
      made.arrays.resize(1);
      made.n_rows = made.row_elements = 0;
      return made;
    };
    if (n_dims != 1 && n_dims != 2) return refuse(fmt::format("has {} dimensions", n_dims));
    for (std::size_t i = 0; i < n_dims; ++i) {
      const std::int32_t dim = shape->Get(static_cast<fb::uoffset_t>(i));
      if (dim <= 0) return refuse(fmt::format("has a dimension of {}", dim));
      made.shape.push_back(Dim(dim));
    }
    made.n_rows = n_dims == 2 ? made.shape[0] : 1;
    made.row_elements = made.shape.back();
    if (std::optional<std::string> why = ReadEncoding(graph, tensor, made))
      return refuse(*std::move(why));
    for (std::size_t a = 0; a < made.arrays.size(); ++a) {
      const std::uint64_t row_bytes = ArrayRowBytes(made.encoding, a, made.row_elements);
      const std::optional<std::uint64_t> wanted = CheckedMul(made.n_rows, row_bytes);
      if (wanted == made.arrays[a].size_bytes) continue;
      return refuse(fmt::format("{} of {} bytes, needs {}", a == 0 ? "is" : "has scales",
                                made.arrays[a].size_bytes, wanted.value_or(0)));
    }
    made.type = EncodingName(made.encoding);
    return made;
  }

 private:
  Place InFile(Place place) const {
    place.offset_bytes += model_begin_;
    return place;
  }

  // Encoding, and where its arrays lie; what is wrong with them.
  std::optional<std::string> ReadEncoding(const tflite::SubGraph& graph,
                                          const tflite::Tensor& tensor, StoredTensor& made) const {
    const tflite::QuantizationParameters* how = tensor.quantization();
    const bool has_scales = how != nullptr && how->scale() != nullptr && how->scale()->size() > 0;
    const auto* blocks = how == nullptr ? nullptr : how->details_as_BlockwiseQuantization();
    if (tensor.type() == TensorType::FLOAT32 || tensor.type() == TensorType::FLOAT16) {
      made.encoding = tensor.type() == TensorType::FLOAT32 ? GgmlType::kF32 : GgmlType::kF16;
      return std::nullopt;
    }
    if (tensor.type() != TensorType::INT8 && tensor.type() != TensorType::INT4)
      return fmt::format("is of a type that phiq does not decode ({})", TypeName(tensor.type()));
    GroupEncoding groups = {tensor.type() == TensorType::INT8 ? Code::kI8 : Code::kI4, 0,
                            ScaleType::kF32, Offset::kNone, true};
    if (groups.code == Code::kI4 && made.row_elements % 2 != 0)
      return fmt::format("has rows of {} 4-bit codes", made.row_elements);
    if (blocks != nullptr) {
      if (std::optional<std::string> why = ReadBlocks(graph, *blocks, groups, made)) return why;
    } else if (!has_scales) {
      return "has no scales";
    } else {
      if (how->scale()->size() != made.n_rows || how->quantized_dimension() != 0)
        return fmt::format("has {} scales for {} rows", how->scale()->size(), made.n_rows);
      const auto* data = reinterpret_cast<const std::byte*>(how->scale()->data());
      made.arrays.push_back(InFile({static_cast<std::uint64_t>(data - flatbuffer_.data()),
                                    how->scale()->size() * sizeof(float)}));
    }
    made.encoding = groups;
    return std::nullopt;
  }

  std::optional<std::string> ReadBlocks(const tflite::SubGraph& graph,
                                        const tflite::BlockwiseQuantization& blocks,
                                        GroupEncoding& groups, StoredTensor& made) const {
    const std::int32_t size = blocks.block_size();
    if (size <= 0 || made.row_elements % Dim(size) != 0)
      return fmt::format("has blocks of {} in rows of {}", size, made.row_elements);
    if (blocks.zero_points() >= 0) return "has zero points";
    const auto index = static_cast<std::uint32_t>(blocks.scales());
    if (blocks.scales() < 0 || index >= graph.tensors()->size())
      return fmt::format("has tensor {} for its scales", blocks.scales());
    const tflite::Tensor& scales = *graph.tensors()->Get(index);
    if (scales.type() != TensorType::FLOAT16 || scales.buffer() >= buffers_.size())
      return fmt::format("has scales of type {}", TypeName(scales.type()));
    const std::optional<Place> place = PlaceOf(*buffers_.Get(scales.buffer()), flatbuffer_);
    if (!place) return "has no scales";
    made.arrays.push_back(InFile(*place));
    groups.group_size = static_cast<std::size_t>(size);
    groups.scale = ScaleType::kF16;
    return std::nullopt;
  }

  const fb::Vector<fb::Offset<tflite::Buffer>>& buffers_;
  const std::span<const std::byte> flatbuffer_;
  const std::uint64_t model_begin_;
};

// Zero points of symmetric codes are all 0. A vector of them may be many tensors', so each is
// looked at once.
class ZeroPoints {
 public:
  bool AllZero(const tflite::QuantizationParameters* how) {
    if (how == nullptr || how->zero_point() == nullptr) return true;
    if (known_zero_.contains(how->zero_point())) return true;
    for (const std::int64_t zero_point : *how->zero_point())
      if (zero_point != 0) return false;
    known_zero_.insert(how->zero_point());
    return true;
  }

 private:
  std::set<const void*> known_zero_;
};

}  // namespace

void File::FindTensors() {
  if (model().subgraphs() == nullptr || model().buffers() == nullptr) return;
  const TensorReader reader(model(), flatbuffer_, model_.offset_bytes);
  ZeroPoints zero_points;
  std::set<std::uint32_t> seen, scales;  // buffers
  const auto& buffers = *model().buffers();
  const auto for_each = [&](const auto& use) {
    for (const tflite::SubGraph* graph : *model().subgraphs()) {
      if (graph->tensors() == nullptr) continue;
      for (const tflite::Tensor* tensor : *graph->tensors())
        if (tensor->buffer() < buffers.size()) use(*graph, *tensor);
    }
  };
  for_each([&](const tflite::SubGraph& graph, const tflite::Tensor& tensor) {
    const auto* how = tensor.quantization();
    const auto* blocks = how == nullptr ? nullptr : how->details_as_BlockwiseQuantization();
    if (blocks == nullptr || blocks->scales() < 0) return;
    const auto index = static_cast<std::uint32_t>(blocks->scales());
    if (index < graph.tensors()->size()) scales.insert(graph.tensors()->Get(index)->buffer());
  });
  for_each([&](const tflite::SubGraph& graph, const tflite::Tensor& tensor) {
    if (scales.contains(tensor.buffer()) || !seen.insert(tensor.buffer()).second) return;
    const tflite::Buffer& buffer = *buffers.Get(tensor.buffer());
    const std::optional<Place> place = PlaceOf(buffer, flatbuffer_);
    const bool is_inside = buffer.data() != nullptr && buffer.data()->size() > 0;
    if (!place || (is_inside && place->size_bytes <= kSmallBytes)) return;
    if (tensors_.size() >= limits::kTensors) {
      throw Bad(model_.offset_bytes, fmt::format("has more than {} constants", limits::kTensors));
    }
    StoredTensor read = reader.Read(graph, tensor, *place);
    if (!read.refusal && !zero_points.AllZero(tensor.quantization())) {
      read.refusal = "has zero points";
      read.n_rows = read.row_elements = 0;
    }
    tensors_.push_back(std::move(read));
  });
}

void File::ReadRows(const StoredTensor& tensor, std::uint64_t first_row, std::uint64_t n_rows,
                    RowCodec& codec, std::span<float> out) const {
  std::vector<std::vector<std::byte>> arrays;
  for (std::size_t a = 0; a < tensor.arrays.size(); ++a) {
    const std::size_t row_bytes = ArrayRowBytes(tensor.encoding, a, tensor.row_elements);
    arrays.emplace_back(static_cast<std::size_t>(n_rows) * row_bytes);
    file_.ReadAt(tensor.arrays[a].offset_bytes + first_row * row_bytes, arrays.back());
  }
  std::vector<std::span<const std::byte>> row(arrays.size());
  for (std::uint64_t r = 0; r < n_rows; ++r) {
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      const std::size_t row_bytes = arrays[a].size() / static_cast<std::size_t>(n_rows);
      row[a] = std::span<const std::byte>(arrays[a]).subspan(
          static_cast<std::size_t>(r) * row_bytes, row_bytes);
    }
    codec.Decode(tensor.encoding, row,
                 out.subspan(static_cast<std::size_t>(r * tensor.row_elements),
                             static_cast<std::size_t>(tensor.row_elements)));
  }
}

std::string DecompressTokenizer(std::string_view section, const std::string& path) {
  const auto bad = [&](std::string message) {
    return Error(ErrorCode::kBadData, "the tokenizer's section " + std::move(message)).In(path);
  };
  constexpr std::size_t kPrefix = sizeof(std::uint64_t);
  if (section.size() < kPrefix) throw bad(fmt::format("has {} bytes", section.size()));
  const auto size_bytes = LoadLe<std::uint64_t>(std::as_bytes(std::span(section)));
  // A stream that would take memory out of proportion is no tokenizer.
  const std::uint64_t most =
      std::min(limits::kTokenizerJsonBytes, limits::kLiteRtTokenizerRatio * section.size());
  if (size_bytes > most)
    throw bad(fmt::format("is {} bytes of text, allowed are {}", size_bytes, most));
  std::string text(static_cast<std::size_t>(size_bytes), '\0');
  uLongf n_bytes = text.size();
  const int status = uncompress(reinterpret_cast<Bytef*>(text.data()), &n_bytes,
                                reinterpret_cast<const Bytef*>(section.data() + kPrefix),
                                section.size() - kPrefix);
  if (status != Z_OK || n_bytes != size_bytes)
    throw bad(fmt::format("holds no zlib stream of {} bytes", size_bytes));
  return text;
}

}  // namespace phiq::litert
