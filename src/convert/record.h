// What an output says of its own bytes, so that damage is seen with and without the checkpoint:
// which arrays stand where, how their codes were chosen, and checksums of each tensor and of all
// the rest. A folder has it as a file, an output that is a file among its first bytes
// (docs/reliability.md "The record").
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/xxh3.h"
#include "formats/layout.h"
#include "phiq/plan.h"
#include "stored/stored_model.h"

namespace phiq {

inline constexpr std::string_view kRecordFile = "phiq.json";
// Of a format that keeps it among its facts (Format::keeps_record).
inline constexpr std::string_view kRecordFact = "phiq.record";
// Of an output that was not made from a checkpoint: SourceModel::origin.
inline constexpr std::string_view kSourceFact = "phiq.source";

// Where the record stands.
struct RecordPlace {
  std::size_t file = 0;
  std::uint64_t offset_bytes = 0;
};

struct Record {
  struct File {
    std::string name;  // of PlacedFile: "" or what the output's name ends in, where it is a file
    std::uint64_t size_bytes = 0;
    Hash128 hash = {};  // of the bytes that no array has (HashHeads)
  };
  std::string version;  // of the phiq that wrote it
  std::vector<File> files;
  // Name, part, role, layer or table, first row, shape, encoding, method and reference; a method
  // that this phiq does not know is null.
  std::vector<PlanLine> lines;
  std::vector<PlacedArray> arrays;  // as of OutputLayout
  std::vector<Hash128> of_lines;    // beside `lines`: the sum of HashRow
  Hash128 of_text;                  // of the record's own text, checksums left blank
  bool has_checksums = false;       // false: it was written to a pipe, which is never read again
};

// The record of an output, and its text, whose length does not depend on checksums.
class RecordText {
 public:
  RecordText() = default;
  explicit RecordText(const Record& record);

  const std::string& blank() const noexcept { return text_; }  // every digit of a checksum is 0
  // The text with the checksums of files and lines, and its own.
  std::string With(std::span<const Hash128> of_files, std::span<const Hash128> of_lines) const;
  // Pads with blanks to that many bytes.
  // Throws   kInternal: it is longer.
  void Fill(std::size_t n_bytes);

 private:
  std::string text_;
  std::vector<std::size_t> digits_;  // where checksums stand: of files, lines, the text itself
};

Record RecordOf(const Plan& plan, const OutputLayout& layout);
// As long as the text of any output of these lines, whatever offsets they get.
std::size_t LongestRecord(const Plan& plan, bool has_parts);

// Throws   kBadData: not a record, or one of arrays that no file could have.
Record ParseRecord(std::string_view text, std::string_view path);
// The text as it was before its checksums were known. Requires that it is a record's.
std::string BlankRecord(std::string text, const Record& record);

// A row of an array, as the file stores it: bits that it does not store are 0 in `row`.
Hash128 HashRow(std::size_t array, std::uint64_t row_number, std::span<const std::byte> row);
// Whether an array does not store some bits that its encoding has; clears those of rows.
bool HasUnstored(const RowArray& array) noexcept;
void ClearUnstored(const RowArray& array, std::span<std::byte> rows);

// Of each file all bytes that no array has. `read` reads bytes of a file; of those of the record
// (`n_record_bytes`) it is not asked.
using ReadFileBytes =
    std::function<void(std::size_t file, std::uint64_t offset_bytes, std::span<std::byte>)>;
std::vector<Hash128> HashHeads(const Record& record, const RecordPlace& place,
                               std::uint64_t n_record_bytes, const ReadFileBytes& read);
Hash128 HashText(std::string_view blank_text);

// "Q4_K", "u4 g32 f16 middle": all that an Encoding holds. nullopt: no such encoding.
std::string EncodingText(const Encoding& encoding);
std::optional<Encoding> ParseEncodingText(std::string_view text);
// "mlas", "mlx bf16". nullptr: no method of this phiq.
std::string MethodText(const Method& method);
const Method* FindMethod(std::string_view text) noexcept;

// A record as it was found, and the files that it is of.
struct StoredRecord {
  Record record;
  std::string text;
  RecordPlace place;
  std::vector<std::filesystem::path> files;
};
// nullopt: the output has none. `path`: what was opened.
//
// Throws   as ParseRecord; kInput.
std::optional<StoredRecord> FindRecord(const StoredModel& output, const std::string& path);

}  // namespace phiq
