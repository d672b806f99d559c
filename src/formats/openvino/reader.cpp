// The .xml first; then every constant against the size of the .bin; then the weights among them, by
// their names.
#include "formats/openvino/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"
#include "base/parse_number.h"
#include "checkpoint/open_input.h"
#include "formats/encoded_rows.h"
#include "formats/openvino/layout.h"
#include "formats/openvino/plan.h"
#include "formats/order.h"
#include "phiq/text.h"

namespace phiq::openvino {
namespace {

namespace fs = std::filesystem;

enum Array : std::size_t { kCodes, kScales, kZeroPoints };

// "2, 3"; empty: a scalar.
std::optional<std::vector<std::uint64_t>> ParseShape(std::string_view text) {
  std::vector<std::uint64_t> dims;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string_view word = text.substr(0, comma);
    while (word.starts_with(' ')) word.remove_prefix(1);
    const auto dim = ParseNumber<std::uint64_t>(word);
    if (!dim || dims.size() == limits::kRank) return std::nullopt;
    dims.push_back(*dim);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return dims;
}

// The checkpoint's name of a weight: exports through PyTorch have "self." before it, and those of
// bfloat16 models another ending.
std::string CheckpointNameOf(std::string_view name) {
  constexpr std::string_view kSelf = "self.", kOriginal = "._openvino_orig_weight";
  if (name.starts_with(kSelf)) name.remove_prefix(kSelf.size());
  if (!name.ends_with(kOriginal)) return std::string(name);
  name.remove_suffix(kOriginal.size());
  return std::string(name) + ".weight";
}

bool IsCode(ElementType type) {
  using enum ElementType;
  return type == kU8 || type == kI8 || type == kU4 || type == kI4;
}

bool IsFloat(ElementType type) {
  return type == ElementType::kF32 || type == ElementType::kF16 || type == ElementType::kBF16;
}

// Of an integer type.
Code CodeOf(ElementType type) {
  using enum ElementType;
  return type == kU8 ? Code::kU8 : type == kI8 ? Code::kI8 : type == kU4 ? Code::kU4 : Code::kI4;
}

GgmlType FloatTypeOf(ElementType type) {
  return type == ElementType::kF32   ? GgmlType::kF32
         : type == ElementType::kF16 ? GgmlType::kF16
                                     : GgmlType::kBF16;
}

}  // namespace

Error Folder::Bad(const StoredConst& constant, std::string message) const {
  return Error(ErrorCode::kBadData, fmt::format("layer {} '{}': {}", graph_.ids[constant.layer],
                                                Escape(constant.name), message))
      .In(files_[0].path().native());
}

Folder Folder::Open(const fs::path& path) {
  std::error_code ignored;
  const fs::path xml = fs::is_directory(path, ignored) ? path / kModelXml : path;
  Folder folder;
  folder.files_.emplace_back(xml);
  const std::string text = ReadWholeFile(xml, limits::kXmlBytes);
  folder.graph_ = ReadXml(text, xml.native(), folder.problems_);
  folder.files_.emplace_back(fs::path(xml).replace_extension(".bin"));
  folder.FindConstants();
  folder.FindWeights();
  return folder;
}

fs::path Folder::parent() const {
  const fs::path parent = files_[0].path().parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

void Folder::FindConstants() {
  for (std::size_t i = 0; i < graph_.ir.layers.size(); ++i) {
    const Layer& layer = graph_.ir.layers[i];
    if (layer.type != "Const") continue;
    StoredConst constant;
    constant.layer = i;
    constant.name = layer.name;
    const auto attribute = [&](std::string_view name) -> std::string_view {
      if (const std::string* value = layer.FindAttribute(name)) return *value;
      throw Bad(constant, fmt::format("has no attribute '{}'", name));
    };
    const auto number = [&](std::string_view name) {
      const std::string_view text = attribute(name);
      if (const auto value = ParseNumber<std::uint64_t>(text)) return *value;
      throw Bad(constant,
                fmt::format("{} is '{}', needs a whole number of bytes", name, Escape(text)));
    };
    constant.type_name = attribute("element_type");
    constant.type = FindType(constant.type_name);
    std::optional<std::vector<std::uint64_t>> dims = ParseShape(attribute("shape"));
    if (!dims) {
      throw Bad(constant, fmt::format("shape is '{}', needs up to {} whole numbers",
                                      Escape(attribute("shape")), limits::kRank));
    }
    constant.dims = *std::move(dims);
    constant.offset_bytes = number("offset");
    constant.size_bytes = number("size");
    const std::uint64_t bin_bytes = files_[1].size();
    const auto end = CheckedAdd(constant.offset_bytes, constant.size_bytes);
    if (!end || *end > bin_bytes) {
      throw Bad(constant, fmt::format("offset {} and size {} are beyond the {} bytes of {}",
                                      constant.offset_bytes, constant.size_bytes, bin_bytes,
                                      Escape(files_[1].path().filename().native())));
    }
    if (constant.type && *constant.type != ElementType::kString) {
      const auto n_elements = CheckedProduct(constant.dims);
      const auto n_bits =
          n_elements ? CheckedMul(*n_elements, BitsOf(*constant.type)) : std::nullopt;
      // A constant without elements has a byte that means nothing.
      const std::uint64_t wanted =
          n_bits ? std::max<std::uint64_t>(1, *n_bits / 8 + (*n_bits % 8 != 0 ? 1 : 0)) : 0;
      if (constant.size_bytes != wanted) {
        throw Bad(constant,
                  fmt::format("size {}, but [{}] of {} are {} bytes", constant.size_bytes,
                              fmt::join(constant.dims, ", "), constant.type_name,
                              n_bits ? fmt::format("{}", wanted) : "more than any file has"));
      }
    }
    constants_.push_back(std::move(constant));
  }
  for (std::size_t i = 0; i < constants_.size(); ++i) index_.try_emplace(constants_[i].name, i);
}

const StoredConst* Folder::FindConstant(std::string_view name) const noexcept {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &constants_[found->second];
}

void Folder::FindWeights() {
  const auto index_of = [&](const std::string& name) -> std::optional<std::size_t> {
    const auto found = index_.find(name);
    if (found == index_.end()) return std::nullopt;
    return found->second;
  };
  for (std::size_t i = 0; i < constants_.size(); ++i) {
    const StoredConst& codes = constants_[i];
    std::string checkpoint_name = CheckpointNameOf(codes.name);
    const std::optional<WeightId> id = FindWeight(checkpoint_name);
    if (!id) continue;
    if (!codes.type || !(IsFloat(*codes.type) || IsCode(*codes.type)) || codes.dims.empty() ||
        std::ranges::find(codes.dims, std::uint64_t{0}) != codes.dims.end()) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("layer {} '{}': weights of type {}, [{}] are not supported",
                              graph_.ids[codes.layer], Escape(codes.name), Escape(codes.type_name),
                              fmt::join(codes.dims, ", ")))
          .In(files_[0].path().native());
    }
    Weight weight;
    weight.name = codes.name;
    weight.checkpoint_name = std::move(checkpoint_name);
    weight.id = *id;
    weight.arrays[kCodes] = i;
    const bool is_of_experts = IsOfExperts(id->role);
    if (is_of_experts) weight.n_matrices = codes.dims.front();
    if (IsFloat(*codes.type)) {
      weight.encoding = FloatTypeOf(*codes.type);
      weight.row_elements = codes.dims.back();
      weight.n_rows = CheckedProduct(codes.dims).value() / weight.row_elements;
      weights_.push_back(std::move(weight));
      continue;
    }
    GroupEncoding groups;
    groups.code = CodeOf(*codes.type);
    weight.arrays[kScales] = index_of(codes.name + "/scale");
    weight.arrays[kZeroPoints] = index_of(codes.name + "/zero_point");
    groups.offset = weight.arrays[kZeroPoints] ? Offset::kZeroPoint : Offset::kNone;
    if (!weight.arrays[kScales]) throw Bad(codes, "has codes but no scales");
    const StoredConst& scales = constants_[*weight.arrays[kScales]];
    const std::size_t least = is_of_experts ? 3 : 2;
    const bool is_grouped = codes.dims.size() == least + 1;
    if (codes.dims.size() < least || codes.dims.size() > least + 1)
      throw Bad(codes, fmt::format("codes of type {} with {} dimensions, needs {} or {}",
                                   codes.type_name, codes.dims.size(), least, least + 1));
    weight.row_elements = codes.dims[least - 1] * (is_grouped ? codes.dims[least] : 1);
    weight.n_rows = CheckedProduct(codes.dims).value() / weight.row_elements;
    groups.group_size = is_grouped ? codes.dims[least] : 0;
    groups.scale = scales.type == ElementType::kF32 ? ScaleType::kF32 : ScaleType::kF16;
    if (!scales.type || (*scales.type != ElementType::kF16 && *scales.type != ElementType::kF32))
      throw Bad(scales,
                fmt::format("scales of type {}, needs f16 or f32", Escape(scales.type_name)));
    std::vector<std::uint64_t> wanted = codes.dims;
    wanted.back() = 1;
    for (const Array array : {kScales, kZeroPoints}) {
      if (!weight.arrays[array]) continue;
      const StoredConst& constant = constants_[*weight.arrays[array]];
      if (constant.dims == wanted && (array == kScales || constant.type == codes.type)) continue;
      throw Bad(constant, fmt::format("is {} [{}], needs {} [{}]", Escape(constant.type_name),
                                      fmt::join(constant.dims, ", "),
                                      array == kScales ? constant.type_name : codes.type_name,
                                      fmt::join(wanted, ", ")));
    }
    if (BitsOf(groups.code) == 4 && weight.row_elements % 2 != 0)
      throw Bad(codes, fmt::format("4-bit rows of {}, needs an even number", weight.row_elements));
    weight.encoding = groups;
    weights_.push_back(std::move(weight));
  }
}

std::vector<std::string> Folder::FindProblems() const {
  std::vector<std::string> problems = problems_;
  for (std::string& problem : FindGraphProblems(graph_)) problems.push_back(std::move(problem));
  std::map<std::string_view, std::size_t> names;
  for (const Layer& layer : graph_.ir.layers) {
    if (++names[layer.name] == 2)
      problems.push_back(fmt::format("two layers are called '{}'", Escape(layer.name)));
  }
  std::uint64_t end = 0;
  for (const StoredConst& constant : constants_)
    end = std::max(end, constant.offset_bytes + constant.size_bytes);
  if (end < files_[1].size()) {
    problems.push_back(fmt::format("{} has {} bytes, but its last constant ends at {}",
                                   Escape(files_[1].path().filename().native()), files_[1].size(),
                                   end));
  }
  if (problems.size() > limits::kIrProblems) {
    const std::size_t more = problems.size() - limits::kIrProblems;
    problems.resize(limits::kIrProblems);
    problems.push_back(fmt::format("{} more problems of the graph", more));
  }
  return problems;
}

const std::string* Folder::FindInfo(std::initializer_list<std::string_view> keys) const noexcept {
  const std::vector<Info>* level = &graph_.ir.info;
  const Info* found = nullptr;
  for (const std::string_view key : keys) {
    const auto next = std::ranges::find(*level, key, &Info::name);
    if (next == level->end()) return nullptr;
    found = &*next;
    level = &next->children;
  }
  return found == nullptr ? nullptr : &found->value;
}

void Folder::Read(const StoredConst& constant, std::uint64_t offset_bytes,
                  std::span<std::byte> out) const {
  files_[1].ReadAt(constant.offset_bytes + offset_bytes, out);
}

void Folder::CheckNumbers(const StoredConst& constant, ElementType type, std::size_t n) const {
  const auto found = CheckedProduct(constant.dims);
  if (constant.type == type && found == n) return;
  throw Bad(constant, fmt::format("is {} [{}], needs {} of type {}", Escape(constant.type_name),
                                  fmt::join(constant.dims, ", "), n, TypeName(type)));
}

std::uint64_t Folder::SizeBytes(const Weight& weight) const noexcept {
  std::uint64_t sum = 0;
  for (const std::optional<std::size_t>& array : weight.arrays)
    if (array) sum += constants_[*array].size_bytes;
  return sum;
}

void Folder::ReadRows(const Weight& weight, std::uint64_t first_row, std::uint64_t n_rows,
                      RowCodec& codec, std::span<float> out) const {
  EncodedRows rows(weight.encoding, n_rows, weight.row_elements);
  for (std::size_t a = 0; a < rows.n_arrays(); ++a) {
    const StoredConst& constant = constants_[*weight.arrays[a]];
    const RowArray array = {OrderOf(weight.encoding, a, weight.row_elements), weight.n_rows,
                            rows.row_bytes(a)};
    phiq::ReadRows(array, first_row, rows.bytes(a),
                   [&](std::uint64_t offset_bytes, std::span<std::byte> bytes) {
                     Read(constant, offset_bytes, bytes);
                   });
  }
  rows.Decode(codec, out);
}

bool LooksLikeOpenVino(const fs::path& path) {
  try {
    if (!fs::is_directory(path)) return path.extension() == ".xml";
    if (!fs::exists(path / kModelXml) && !fs::exists(path / kModelBin)) return false;
    return std::ranges::none_of(NamesInFolder(path), [](const std::string& name) {
      return name.ends_with(".safetensors");
    });
  } catch (const Error&) {
    return false;
  } catch (const fs::filesystem_error&) {
    return false;
  }
}

bool IsOurs(const Folder& folder) noexcept { return folder.FindInfo({"phiq"}) != nullptr; }

}  // namespace phiq::openvino
