// The text of a record is JSON with a tensor a line. Numbers that are known late are as wide as
// they can become, so that its length is known before any offset is.
#include "convert/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/checked.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/parse_number.h"
#include "formats/format.h"
#include "io/input_file.h"
#include "io/system.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBlankHash = "00000000000000000000000000000000";
static_assert(kBlankHash.size() == Hash128::kDigits);
// Of numbers that are known late: petabytes.
constexpr int kWidth = 15;
constexpr std::uint64_t kMostHeadBytes = 1ULL << 30;
constexpr std::uint64_t kGroupBytes = 1U << 20;
constexpr std::size_t kPartBytes = 96;  // of the entry of one part

constexpr std::string_view kPositive = " positive";  // of scales
constexpr std::pair<Code, std::string_view> kCodes[] = {
    {Code::kU2, "u2"},     {Code::kU3, "u3"},    {Code::kU4, "u4"}, {Code::kU5, "u5"},
    {Code::kU6, "u6"},     {Code::kU8, "u8"},    {Code::kI4, "i4"}, {Code::kI8, "i8"},
    {Code::kE2M1, "e2m1"}, {Code::kE4M3, "e4m3"}};
constexpr std::pair<ScaleType, std::string_view> kScales[] = {{ScaleType::kF32, "f32"},
                                                              {ScaleType::kF16, "f16"},
                                                              {ScaleType::kBF16, "bf16"},
                                                              {ScaleType::kE8M0, "e8m0"},
                                                              {ScaleType::kE4M3, "e4m3"}};
constexpr std::pair<Offset, std::string_view> kOffsets[] = {{Offset::kNone, "none"},
                                                            {Offset::kMiddle, "middle"},
                                                            {Offset::kZeroPoint, "zero_point"},
                                                            {Offset::kBias, "bias"}};
constexpr std::pair<Order::Kind, std::string_view> kOrders[] = {
    {Order::Kind::kRows, "rows"},
    {Order::Kind::kCutRows, "cut_rows"},
    {Order::Kind::kColumns, "columns"},
    {Order::Kind::kFlatNibbles, "flat_nibbles"},
    {Order::Kind::kSpreadRows, "spread_rows"},
    {Order::Kind::kRowWords, "row_words"},
    {Order::Kind::kAwqWords, "awq_words"}};
constexpr std::pair<FloatType, std::string_view> kWeights[] = {
    {FloatType::kF32, ""}, {FloatType::kF16, " f16"}, {FloatType::kBF16, " bf16"}};
constexpr std::pair<TensorPart, std::string_view> kPartNames[] = {
    {TensorPart::kWhole, ""},  {TensorPart::kQuery, "q"},   {TensorPart::kKey, "k"},
    {TensorPart::kValue, "v"}, {TensorPart::kGate, "gate"}, {TensorPart::kUp, "up"}};

template <typename T, std::size_t n>
std::string_view NameIn(const std::pair<T, std::string_view> (&table)[n], T value) {
  for (const auto& [one, name] : table)
    if (one == value) return name;
  return "";
}

template <typename T, std::size_t n>
std::optional<T> FindIn(const std::pair<T, std::string_view> (&table)[n], std::string_view text) {
  for (const auto& [one, name] : table)
    if (name == text) return one;
  return std::nullopt;
}

// The value whose name is `text`, of an enum whose values have names from 0 on.
template <typename T>
std::optional<T> FindNamed(std::string_view text, std::string_view (*name_of)(T) noexcept) {
  for (std::uint8_t i = 0; !name_of(static_cast<T>(i)).empty(); ++i)
    if (name_of(static_cast<T>(i)) == text) return static_cast<T>(i);
  return std::nullopt;
}

std::string JsonQuoted(std::string_view text) { return Json(text).dump(); }

RowArray ArrayOf(const PlanLine& line, const PlacedArray& array) {
  return {array.order, line.n_rows(),
          ArrayRowBytes(line.encoding, array.array, line.row_elements())};
}

bool NeedsWholeGroups(const Method* method) {
  using enum FloatType;
  for (const FloatType weights : {kF32, kF16, kBF16})
    for (const MlxRounding rounding : {MlxRounding::kCpu, MlxRounding::kMetal})
      if (method == &MlxMethod(rounding, weights)) return true;
  return false;
}

// Members of a record, or what is wrong with it.
class Reader {
 public:
  explicit Reader(std::string_view path) : path_(path) {}

  Error Bad(std::string_view what) const {
    return Error(ErrorCode::kBadData, fmt::format("is no record of phiq's: {}", what)).In(path_);
  }
  const Json& Member(const Json& object, std::string_view key) const {
    if (const Json* const member = object.find(key)) return *member;
    throw Bad(fmt::format("'{}' is missing", key));
  }
  const std::string& Text(const Json& value, std::string_view what) const {
    if (!value.is_string()) throw Bad(fmt::format("{} is no string", what));
    return value.text();
  }
  std::uint64_t Count(const Json& value, std::uint64_t most, std::string_view what) const {
    if (value.is_number_unsigned())
      if (const auto number = value.get<std::uint64_t>(); number <= most) return number;
    throw Bad(fmt::format("{} is no number from 0 to {}", what, most));
  }
  const Json& List(const Json& value, std::size_t n, std::string_view what) const {
    if (!value.is_array() || (n > 0 && value.size() != n))
      throw Bad(fmt::format("{} is no list as it should be", what));
    return value;
  }
  template <typename T>
  T Known(std::optional<T> value, std::string_view what) const {
    if (!value) throw Bad(fmt::format("an unknown {}", what));
    return *value;
  }
  Hash128 Hash(const Json& object, std::string_view key) const {
    return Known(Hash128::Parse(Text(Member(object, key), key)), "checksum");
  }

  Record::File File(const Json& entry) const {
    List(entry, 3, "a file");
    Record::File file{Text(entry[0], "a name"),
                      Count(entry[1], std::uint64_t{1} << 62, "the size of a file"),
                      Known(Hash128::Parse(Text(entry[2], "a checksum")), "checksum")};
    if (file.name.find('/') != std::string::npos || file.name.find('\0') != std::string::npos ||
        file.name == "." || file.name == "..")
      throw Bad("the name of a file is a path");
    return file;
  }

  PlanLine Line(const Json& entry) const {
    PlanLine line;
    line.name = Text(Member(entry, "name"), "a name");
    line.part = Known(FindIn(kPartNames, Text(Member(entry, "part"), "a part")), "part");
    if (const Json* const table = entry.find("table")) {
      line.table = Known(FindNamed(Text(*table, "a table"), ConfigTableName), "table");
    } else {
      line.role = Known(FindNamed(Text(Member(entry, "role"), "a role"), RoleName), "role");
    }
    line.first_row = Count(Member(entry, "first_row"), std::uint64_t{1} << 40, "a first row");
    for (const Json& size : List(Member(entry, "shape"), 0, "a shape"))
      line.shape.push_back(Count(size, std::uint64_t{1} << 40, "a size"));
    const std::optional<std::uint64_t> n = CheckedProduct(line.shape);
    if (!n || *n == 0 || *n > std::uint64_t{1} << 50 || line.shape.size() > limits::kRank)
      throw Bad("a shape that no tensor has");
    line.encoding =
        Known(ParseEncodingText(Text(Member(entry, "encoding"), "an encoding")), "encoding");
    if (const GgmlType* type = std::get_if<GgmlType>(&line.encoding);
        type != nullptr && line.row_elements() % GetGgmlTypeInfo(*type).block_size != 0)
      throw Bad("rows that are no whole blocks");
    line.method = FindMethod(Text(Member(entry, "method"), "a method"));
    if (const Json* const reference = entry.find("reference")) {
      line.reference = FindMethod(Text(*reference, "a method"));
      if (line.reference == nullptr) line.method = nullptr;
    }
    const GroupEncoding* const groups = std::get_if<GroupEncoding>(&line.encoding);
    if (groups != nullptr && groups->group_size > 0 && NeedsWholeGroups(line.method) &&
        line.row_elements() % groups->group_size != 0)
      throw Bad("rows that are no whole groups");
    if (line.method != nullptr && !line.method->fills(line.encoding))
      throw Bad(fmt::format("a method that does not fill {}", EncodingName(line.encoding)));
    return line;
  }

  PlacedArray Array(const Json& entry, const PlanLine& line, std::size_t a,
                    std::span<const Record::File> files) const {
    List(entry, 4, "an array");
    PlacedArray array;
    array.array = a;
    if (files.empty()) throw Bad("no files");
    array.file = Count(entry[0], files.size() - 1, "the file of an array");
    array.offset_bytes = Count(entry[1], std::uint64_t{1} << 62, "an offset");
    array.order.kind = Known(FindIn(kOrders, Text(entry[2], "an order")), "order");
    array.order.row_size = Count(entry[3], std::uint64_t{1} << 40, "the size of a row");
    const RowArray rows = ArrayOf(line, array);
    const bool fits = [&] {
      switch (array.order.kind) {
        case Order::Kind::kRows:
          return array.order.row_size == 0;
        case Order::Kind::kCutRows:
          // Less than a group is cut off.
          return array.order.row_size > 0 && array.order.row_size <= rows.row_bytes &&
                 rows.row_bytes - array.order.row_size <= kGroupBytes;
        case Order::Kind::kSpreadRows:
          return array.order.row_size >= rows.row_bytes &&
                 CheckedMul(rows.n_rows, array.order.row_size).has_value();
        case Order::Kind::kColumns:
          return array.order.row_size > 0 && rows.row_bytes % array.order.row_size == 0;
        case Order::Kind::kRowWords:
        case Order::Kind::kAwqWords:
          if (rows.n_rows % Order::kRowsInWord != 0) return false;
          break;
        case Order::Kind::kFlatNibbles:
          break;
      }
      return array.order.row_size > 0 && (array.order.row_size + 1) / 2 == rows.row_bytes;
    }();
    // Twice: numbers of 4 bits are more than their bytes.
    const bool has_size = CheckedMul(rows.n_rows, 2 * rows.row_bytes).has_value();
    const std::optional<std::uint64_t> end =
        has_size ? CheckedAdd(array.offset_bytes, SizeBytes(rows)) : std::nullopt;
    if (!fits || rows.row_bytes == 0 || !end || *end > files[array.file].size_bytes)
      throw Bad("an array that does not fit its file");
    return array;
  }

 private:
  std::string_view path_;
};

// Bytes of a file, from one of its arrays to the next.
struct Range {
  std::uint64_t begin = 0, end = 0;
};
// Those of `file` that arrays take, in their order, and an empty one at its end.
std::vector<Range> TakenRanges(const Record& record, std::size_t file) {
  std::vector<Range> taken;
  for (const PlacedArray& array : record.arrays)
    if (array.file == file)
      taken.push_back({array.offset_bytes,
                       array.offset_bytes + SizeBytes(ArrayOf(record.lines[array.line], array))});
  taken.push_back({record.files[file].size_bytes, record.files[file].size_bytes});
  std::ranges::sort(taken, {}, &Range::begin);
  return taken;
}

// Where the text of a record stands in the first file: between two arrays.
std::optional<std::uint64_t> FindText(const StoredRecord& stored) {
  const InputFile file(stored.files[0]);
  std::uint64_t at = 0;
  for (const Range& range : TakenRanges(stored.record, 0)) {
    const std::uint64_t end = std::min({range.begin, file.size(), at + kMostHeadBytes});
    if (at + stored.text.size() <= end) {
      std::string text(end - at, '\0');
      file.ReadAt(at, std::as_writable_bytes(std::span(text)));
      if (const std::size_t found = text.find(stored.text); found != std::string::npos)
        return at + found;
    }
    at = std::max(at, range.end);
  }
  return std::nullopt;
}

}  // namespace

std::string EncodingText(const Encoding& encoding) {
  if (const GgmlType* type = std::get_if<GgmlType>(&encoding))
    return std::string(GetGgmlTypeInfo(*type).name);
  const GroupEncoding& groups = std::get<GroupEncoding>(encoding);
  return fmt::format("{} g{} {} {}{}", NameIn(kCodes, groups.code), groups.group_size,
                     NameIn(kScales, groups.scale), NameIn(kOffsets, groups.offset),
                     groups.positive_scales ? kPositive : "");
}

std::optional<Encoding> ParseEncodingText(std::string_view text) {
  if (text.find(' ') == std::string_view::npos) {
    if (const std::optional<GgmlType> type = FindGgmlType(text)) return *type;
    return std::nullopt;
  }
  const bool is_positive = text.ends_with(kPositive);
  if (is_positive) text.remove_suffix(kPositive.size());
  std::array<std::string_view, 4> words;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::size_t end = i + 1 == words.size() ? text.size() : text.find(' ');
    if (end == std::string_view::npos) return std::nullopt;
    words[i] = text.substr(0, end);
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  const auto code = FindIn(kCodes, words[0]);
  const auto scale = FindIn(kScales, words[2]);
  const auto offset = FindIn(kOffsets, words[3]);
  if (!code || !scale || !offset || !words[1].starts_with('g')) return std::nullopt;
  const auto group_size = ParseNumber<std::uint32_t>(std::string(words[1].substr(1)));
  if (!group_size || *group_size > 1U << 20) return std::nullopt;
  return GroupEncoding{*code, *group_size, *scale, *offset, is_positive};
}

std::string MethodText(const Method& method) {
  return std::string(method.name) + std::string(NameIn(kWeights, method.weights));
}

const Method* FindMethod(std::string_view text) noexcept {
  using enum FloatType;
  static const std::array<const Method*, 17> methods = {&kGgml,
                                                        &kSearch,
                                                        &kImatrix,
                                                        &kFeedback,
                                                        &kNearest,
                                                        &kMlas,
                                                        &kRtn,
                                                        &kKQuant,
                                                        &kGather,
                                                        &kNncf,
                                                        &kMinMax,
                                                        &MlxMethod(MlxRounding::kCpu, kF32),
                                                        &MlxMethod(MlxRounding::kCpu, kF16),
                                                        &MlxMethod(MlxRounding::kCpu, kBF16),
                                                        &MlxMethod(MlxRounding::kMetal, kF32),
                                                        &MlxMethod(MlxRounding::kMetal, kF16),
                                                        &MlxMethod(MlxRounding::kMetal, kBF16)};
  for (const Method* method : methods)
    if (text.starts_with(method->name) &&
        text.substr(method->name.size()) == NameIn(kWeights, method->weights))
      return method;
  return nullptr;
}

Record RecordOf(const Plan& plan, const OutputLayout& layout) {
  Record record;
  record.version = PHIQ_VERSION;
  for (const PlacedFile& file : layout.files) record.files.push_back({file.name, file.size_bytes});
  record.lines = plan.lines;
  record.arrays = layout.arrays;
  return record;
}

RecordText::RecordText(const Record& record) {
  // By line and array, as they are read again.
  std::vector<std::array<const PlacedArray*, kMaxArrays>> arrays(record.lines.size());
  for (const PlacedArray& array : record.arrays) arrays[array.line][array.array] = &array;
  std::string& text = text_;
  const auto add_hash = [&] {
    digits_.push_back(text.size());
    text += kBlankHash;
  };
  text = fmt::format("{{\"phiq\":{},\n\"files\":[", JsonQuoted(record.version));
  for (const Record::File& file : record.files) {
    text += fmt::format("{}[{},{:>{}},\"", &file == record.files.data() ? "" : ",",
                        JsonQuoted(file.name), file.size_bytes, kWidth);
    add_hash();
    text += "\"]";
  }
  text += "],\n\"tensors\":[";
  for (std::size_t i = 0; i < record.lines.size(); ++i) {
    const PlanLine& line = record.lines[i];
    text += fmt::format("{}\n{{\"name\":{},\"part\":\"{}\",", i == 0 ? "" : ",",
                        JsonQuoted(line.name), NameIn(kPartNames, line.part));
    text += line.table ? fmt::format("\"table\":\"{}\"", ConfigTableName(*line.table))
                       : fmt::format("\"role\":\"{}\"", RoleName(line.role));
    text += fmt::format(",\"first_row\":{},\"shape\":[", line.first_row);
    for (std::size_t d = 0; d < line.shape.size(); ++d)
      text += fmt::format("{}{}", d == 0 ? "" : ",", line.shape[d]);
    text += fmt::format("],\"encoding\":\"{}\",\"method\":\"{}\"", EncodingText(line.encoding),
                        MethodText(*line.method));
    if (line.reference != nullptr)
      text += fmt::format(",\"reference\":\"{}\"", MethodText(*line.reference));
    text += ",\"arrays\":[";
    for (std::size_t a = 0; a < ArrayCount(line.encoding); ++a) {
      const PlacedArray array = arrays[i][a] == nullptr ? PlacedArray() : *arrays[i][a];
      text += fmt::format("{}[{:>5},{:>{}},\"{}\",{}]", a == 0 ? "" : ",", array.file,
                          array.offset_bytes, kWidth, NameIn(kOrders, array.order.kind),
                          array.order.row_size);
    }
    text += "],\"xxh3\":\"";
    add_hash();
    text += "\"}";
  }
  text += "],\n\"record\":\"";
  add_hash();
  text += "\"}\n";
}

std::string RecordText::With(std::span<const Hash128> of_files,
                             std::span<const Hash128> of_lines) const {
  std::string text = text_;
  std::size_t i = 0;
  const auto put = [&](const Hash128& hash) {
    text.replace(digits_[i++], Hash128::kDigits, hash.Hex());
  };
  for (const Hash128& hash : of_files) put(hash);
  for (const Hash128& hash : of_lines) put(hash);
  put(HashText(text_));
  return text;
}

void RecordText::Fill(std::size_t n_bytes) {
  if (text_.size() > n_bytes)
    throw Error(ErrorCode::kInternal, fmt::format("a record of {} bytes where {} are kept for it",
                                                  text_.size(), n_bytes));
  text_.resize(n_bytes, ' ');
}

std::size_t LongestRecord(const Plan& plan, bool has_parts) {
  Record record;
  record.version = PHIQ_VERSION;
  record.lines = plan.lines;
  return RecordText(record).blank().size() + kPartBytes * (has_parts ? plan.lines.size() : 1);
}

Record ParseRecord(std::string_view text, std::string_view path) {
  const Json json = ParseJson(text, path, /*max_depth=*/8);
  const Reader reader(path);
  Record record;
  record.version = reader.Text(reader.Member(json, "phiq"), "the version");
  for (const Json& entry : reader.List(reader.Member(json, "files"), 0, "'files'"))
    record.files.push_back(reader.File(entry));
  for (const Json& entry : reader.List(reader.Member(json, "tensors"), 0, "'tensors'")) {
    PlanLine line = reader.Line(entry);
    const Json& arrays =
        reader.List(reader.Member(entry, "arrays"), ArrayCount(line.encoding), "'arrays'");
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      record.arrays.push_back(reader.Array(arrays[a], line, a, record.files));
      record.arrays.back().line = record.lines.size();
    }
    record.lines.push_back(std::move(line));
    record.of_lines.push_back(reader.Hash(entry, "xxh3"));
  }
  record.of_text = reader.Hash(json, "record");
  record.has_checksums = record.of_text != Hash128();
  // What is hashed grows with the files and not with the record.
  std::uint64_t n_file_bytes = 0, n_array_bytes = 0;
  for (const Record::File& file : record.files) n_file_bytes += file.size_bytes;
  for (const PlacedArray& array : record.arrays) {
    const RowArray rows = ArrayOf(record.lines[array.line], array);
    n_array_bytes += rows.order.kind == Order::Kind::kSpreadRows ? rows.n_rows * rows.row_bytes
                                                                 : SizeBytes(rows);
  }
  if (n_array_bytes > n_file_bytes) throw reader.Bad("arrays that overlap");
  return record;
}

std::string BlankRecord(std::string text, const Record& record) {
  std::size_t from = 0;
  const auto blank = [&](const Hash128& hash) {
    const std::size_t at = text.find(hash.Hex(), from);
    if (at == std::string::npos) return;  // in no text that phiq writes: its own hash will tell
    text.replace(at, Hash128::kDigits, kBlankHash);
    from = at + Hash128::kDigits;
  };
  for (const Record::File& file : record.files) blank(file.hash);
  for (const Hash128& hash : record.of_lines) blank(hash);
  blank(record.of_text);
  return text;
}

Hash128 HashRow(std::size_t array, std::uint64_t row_number, std::span<const std::byte> row) {
  return Xxh3(row, row_number * kMaxArrays + array);
}

namespace {

// Rows of 4-bit numbers that are stored without what fills their last byte.
bool HasLooseNibble(const Order& order) noexcept {
  return (order.kind == Order::Kind::kFlatNibbles || order.HasRowsInWords()) &&
         order.row_size % 2 != 0;
}

}  // namespace

bool HasUnstored(const RowArray& array) noexcept {
  return array.order.kind == Order::Kind::kCutRows || HasLooseNibble(array.order);
}

void ClearUnstored(const RowArray& array, std::span<std::byte> rows) {
  const std::size_t n = array.order.row_size;
  if (array.order.kind == Order::Kind::kCutRows) {
    for (std::size_t begin = 0; begin < rows.size(); begin += array.row_bytes)
      std::ranges::fill(rows.subspan(begin, array.row_bytes).subspan(n), std::byte{});
  } else if (HasLooseNibble(array.order)) {
    for (std::size_t end = array.row_bytes; end <= rows.size(); end += array.row_bytes)
      rows[end - 1] &= std::byte{0x0F};
  }
}

std::vector<Hash128> HashHeads(const Record& record, const RecordPlace& place,
                               std::uint64_t n_record_bytes, const ReadFileBytes& read) {
  constexpr std::uint64_t kAtOnce = 1U << 16;
  std::vector<std::byte> buffer;
  std::vector<Hash128> hashes;
  for (std::size_t f = 0; f < record.files.size(); ++f) {
    std::vector<Range> ranges = TakenRanges(record, f);
    if (f == place.file) {
      ranges.push_back({place.offset_bytes, place.offset_bytes + n_record_bytes});
      std::ranges::sort(ranges, {}, &Range::begin);
    }
    Xxh3Stream hash;
    std::uint64_t at = 0;
    for (const Range& range : ranges) {
      while (at < range.begin) {
        buffer.resize(std::min(kAtOnce, range.begin - at));
        read(f, at, buffer);
        hash.Add(buffer);
        at += buffer.size();
      }
      at = std::max(at, range.end);
    }
    hashes.push_back(hash.Digest());
  }
  return hashes;
}

Hash128 HashText(std::string_view blank_text) {
  return Xxh3(std::as_bytes(std::span(blank_text)), 0);
}

std::optional<StoredRecord> FindRecord(const StoredModel& output, const std::string& path) {
  const Format* const format = RecognizeFormat(path);
  StoredRecord found;
  if (format == nullptr || format->file_ending.empty()) {
    // A checkpoint's path may be a name in the hub cache: its model knows the folder.
    const fs::path given = format == nullptr ? output.path() : path;
    const fs::path folder = fs::is_directory(given) ? given : given.parent_path();
    const fs::path file = folder / kRecordFile;
    if (!Stands(file, ErrorCode::kInput)) return std::nullopt;
    found.text = ReadWholeFile(file, limits::kConfigBytes);
    found.record = ParseRecord(found.text, file.string());
    for (const Record::File& one : found.record.files) {
      if (one.name == kRecordFile) found.place.file = found.files.size();
      found.files.push_back(folder / one.name);
    }
    if (found.files.empty() || found.record.files[found.place.file].name != kRecordFile)
      throw Error(ErrorCode::kBadData, "is not one of the files that it names").In(file.string());
    return found;
  }
  const Facts facts = output.facts();
  const auto fact = std::ranges::find(facts, kRecordFact,
                                      [](const auto& one) { return std::string_view(one.first); });
  if (fact == facts.end()) return std::nullopt;
  found.text = fact->second;
  found.record = ParseRecord(found.text, path);
  // The output may have another name by now; what its parts' names end in stays.
  const std::string first = found.record.files.empty() ? "" : found.record.files[0].name;
  if (!path.ends_with(first))
    throw Error(
        ErrorCode::kBadData,
        fmt::format("was written as '...{}': parts cannot be found beside it", Escape(first)))
        .In(path);
  const std::string stem = path.substr(0, path.size() - first.size());
  for (const Record::File& one : found.record.files) found.files.emplace_back(stem + one.name);
  if (found.files.empty()) throw Error(ErrorCode::kBadData, "its record names no file").In(path);
  const std::optional<std::uint64_t> place = FindText(found);
  if (!place) throw Error(ErrorCode::kBadData, "its record does not stand as it is told").In(path);
  found.place.offset_bytes = *place;
  return found;
}

}  // namespace phiq
