// Notes are words with commas between them and semicolons between records, of which the last is a
// digest of the others; floats are hexadecimal, so that figures of a report are the same digits
// whoever computed them.
#include "convert/stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <system_error>

#include "base/sha256.h"
#include "base/xxh3.h"
#include "checkpoint/open_input.h"
#include "convert/check_record.h"
#include "convert/meter.h"
#include "io/input_file.h"
#include "io/temporaries.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

// How a line's method is noted: which of those that it may have.
enum class Chosen : std::uint8_t { kPlanned, kImatrix, kReference };

std::vector<std::string_view> Split(std::string_view text, char between) {
  std::vector<std::string_view> words;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(between, begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

// Reads words one after the other; once one is not what it should be, all is wrong.
class Words {
 public:
  explicit Words(std::string_view record) : words_(Split(record, ',')) {}

  std::string_view Text() { return next_ < words_.size() ? words_[next_++] : Wrong(); }
  template <typename Number>
  Number Count() {
    Number number = 0;
    const std::string_view word = Text();
    const auto [end, failed] = std::from_chars(word.data(), word.data() + word.size(), number);
    is_right_ = is_right_ && failed == std::errc() && end == word.data() + word.size();
    return number;
  }
  double Float() {
    double number = 0;
    const std::string_view word = Text();
    const auto [end, failed] =
        std::from_chars(word.data(), word.data() + word.size(), number, std::chars_format::hex);
    is_right_ = is_right_ && failed == std::errc() && end == word.data() + word.size();
    return number;
  }
  bool IsRight() const { return is_right_ && next_ == words_.size(); }

 private:
  std::string_view Wrong() {
    is_right_ = false;
    return "";
  }

  std::vector<std::string_view> words_;
  std::size_t next_ = 0;
  bool is_right_ = true;
};

// As std::from_chars reads it: without the 0x.
std::string Hex(double number) {
  std::array<char, 40> text;
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), number, std::chars_format::hex);
  return {text.data(), end.ptr};
}

std::string DigestOf(std::string_view text) { return Sha256Hex(text).substr(0, 16); }

// `read` as ReadAt.
template <typename Read>
Hash128 HashBytes(const Read& read, std::uint64_t offset_bytes, std::uint64_t n_bytes) {
  constexpr std::uint64_t kAtOnce = 1U << 20;
  std::vector<std::byte> buffer(std::min(kAtOnce, n_bytes));
  Xxh3Stream hash;
  for (std::uint64_t at = 0; at < n_bytes; at += buffer.size()) {
    const auto piece = std::span(buffer).first(std::min<std::uint64_t>(kAtOnce, n_bytes - at));
    read(offset_bytes + at, piece);
    hash.Add(piece);
  }
  return hash.Digest();
}

std::string ScratchName(const fs::path& beside, std::string_view what) {
  return fmt::format("{}.{}", beside.filename().string(), what);
}

fs::path WithoutSlash(const fs::path& output) {
  return output.has_filename() ? output : output.parent_path();
}

// The temporary that the run made for a name; "": none.
std::string TemporaryOf(std::span<const StagedName> temporaries, const std::string& name) {
  const std::string prefix = TemporaryPrefix(name);
  for (const StagedName& staged : temporaries)
    if (staged.name.starts_with(prefix)) return staged.name;
  return "";
}

// Where an output's files are written.
std::vector<fs::path> TemporariesOf(const fs::path& folder, const KeptRun& run,
                                    const Output& output) {
  std::vector<fs::path> paths;
  const std::string name = WithoutSlash(output.path).filename().string();
  for (const PlacedFile& file : output.layout.files)
    paths.push_back(output.layout.is_folder
                        ? folder / TemporaryOf(run.content.folders, name) / file.name
                        : folder / TemporaryOf(run.content.files, file.name));
  return paths;
}

bool IsOutputAsNoted(const fs::path& folder, const KeptRun& run, const Output& output,
                     std::span<const std::optional<Hash128>> of_lines, unsigned threads,
                     const Hooks& hooks) {
  const Record record = RecordOf(*output.plan, output.layout);
  std::vector<InputFile> files;
  for (const fs::path& path : TemporariesOf(folder, run, output)) {
    files.emplace_back(path);
    if (files.back().size() != record.files[files.size() - 1].size_bytes) return false;
  }
  const auto read = [&](std::size_t file, std::uint64_t at, std::span<std::byte> out) {
    files[file].ReadAt(at, out);
  };
  if (!output.record.blank().empty() &&
      HashHeads(record, output.record_place, output.record.blank().size(), read) != output.of_files)
    return false;
  std::vector<bool> is_done(record.lines.size());
  std::uint64_t n_weights = 0;
  for (std::size_t i = 0; i < is_done.size(); ++i) {
    is_done[i] = of_lines[i].has_value();
    if (is_done[i]) n_weights += record.lines[i].n_elements();
  }
  Meter meter(hooks, n_weights);
  const std::vector<Hash128> found = HashLines(record, files, is_done, threads, meter);
  for (std::size_t i = 0; i < is_done.size(); ++i)
    if (is_done[i] && found[i] != of_lines[i]) return false;
  return true;
}

Chosen ChoiceOf(const LineResult& result, const PlanLine& line) {
  if (result.method == line.method) return Chosen::kPlanned;
  return result.method == &kImatrix ? Chosen::kImatrix : Chosen::kReference;
}

// As far as they are whole.
std::vector<StageNote> ParseNotes(std::span<const std::string> noted,
                                  std::span<const StreamTarget> targets) {
  std::vector<StageNote> notes;
  for (const std::string& text : noted) {
    std::optional<StageNote> note = ParseNote(text, targets);
    if (!note) break;
    notes.push_back(std::move(*note));
  }
  return notes;
}

}  // namespace

std::string FormatNote(const StageNote& note, std::span<const StreamTarget> targets) {
  std::string text = fmt::format("{},{}", note.result.n_nan_zeroed, note.n_tokens);
  for (const LineResult& result : note.result.lines) {
    const PlanLine& line = targets[result.target].plan->lines[result.line];
    text +=
        fmt::format(";line,{},{},{},{},{},{},{},{},{}", result.target, result.line, result.expert,
                    static_cast<int>(ChoiceOf(result, line)), result.hash.Hex(), result.n_clamped,
                    result.n_outliers, Hex(result.squared_error), Hex(result.squared_weight));
    if (result.products)
      text += fmt::format(",{},{},{}", Hex(result.products->held_back),
                          Hex(result.products->reference), Hex(result.products->seen));
  }
  for (const auto& [target, input] : note.corrections)
    text += fmt::format(";input,{},{},{},{},{},{},{}", target, input.role, input.layer,
                        input.expert, input.is_used ? 1 : 0, Hex(input.without), Hex(input.with));
  for (const StageNote::Kept& kept : note.kept)
    text += fmt::format(";kept,{},{},{},{}", kept.file, kept.offset_bytes, kept.n_bytes,
                        kept.hash.Hex());
  return text + ';' + DigestOf(text);
}

std::optional<StageNote> ParseNote(std::string_view text, std::span<const StreamTarget> targets) {
  const std::size_t last = text.rfind(';');
  if (last == std::string_view::npos || text.substr(last + 1) != DigestOf(text.substr(0, last)))
    return std::nullopt;
  StageNote note;
  const std::vector<std::string_view> records = Split(text.substr(0, last), ';');
  Words first(records.front());
  note.result.n_nan_zeroed = first.Count<std::uint64_t>();
  note.n_tokens = first.Count<std::uint64_t>();
  if (!first.IsRight()) return std::nullopt;
  for (const std::string_view record : std::span(records).subspan(1)) {
    Words words(record);
    const std::string_view kind = words.Text();
    if (kind == "kept") {
      StageNote::Kept kept;
      kept.file = words.Text();
      kept.offset_bytes = words.Count<std::uint64_t>();
      kept.n_bytes = words.Count<std::uint64_t>();
      const std::optional<Hash128> hash = Hash128::Parse(words.Text());
      if (!hash || !words.IsRight()) return std::nullopt;
      kept.hash = *hash;
      note.kept.push_back(std::move(kept));
      continue;
    }
    const auto target = words.Count<std::size_t>();
    if (target >= targets.size()) return std::nullopt;
    if (kind == "line") {
      LineResult result;
      result.target = target;
      result.line = words.Count<std::size_t>();
      if (result.line >= targets[target].plan->lines.size()) return std::nullopt;
      const PlanLine& line = targets[target].plan->lines[result.line];
      result.expert = words.Count<std::int32_t>();
      const auto choice = words.Count<int>();
      result.method = choice == static_cast<int>(Chosen::kPlanned)   ? line.method
                      : choice == static_cast<int>(Chosen::kImatrix) ? &kImatrix
                                                                     : line.reference;
      if (result.method == nullptr) return std::nullopt;
      const std::optional<Hash128> hash = Hash128::Parse(words.Text());
      if (!hash) return std::nullopt;
      result.hash = *hash;
      result.n_clamped = words.Count<std::uint64_t>();
      result.n_outliers = words.Count<std::uint64_t>();
      result.squared_error = words.Float();
      result.squared_weight = words.Float();
      if (!words.IsRight()) {
        ProductErrors& products = result.products.emplace();
        products.held_back = words.Float();
        products.reference = words.Float();
        products.seen = words.Float();
      }
      note.result.lines.push_back(result);
    } else {
      InputCorrection input;
      input.role = words.Text();
      input.layer = words.Count<std::int32_t>();
      input.expert = words.Count<std::int32_t>();
      input.is_used = words.Count<int>() == 1;
      input.without = words.Float();
      input.with = words.Float();
      note.corrections.push_back({target, std::move(input)});
    }
    if (!words.IsRight()) return std::nullopt;
  }
  return note;
}

bool IsAsNoted(const fs::path& folder, const KeptRun& run, std::span<const Output> outputs,
               unsigned threads, const Hooks& hooks) {
  std::vector<StreamTarget> targets;
  std::vector<std::vector<std::optional<Hash128>>> of_lines;
  for (const Output& output : outputs) {
    targets.push_back({output.plan.get(), &output.layout, {}});
    of_lines.emplace_back(output.plan->lines.size());
  }
  const std::vector<StageNote> notes = ParseNotes(run.content.stages, targets);
  if (notes.empty()) return false;
  for (const StageNote& note : notes)
    for (const LineResult& line : note.result.lines) of_lines[line.target][line.line] = line.hash;
  try {
    for (std::size_t t = 0; t < outputs.size(); ++t)
      if (!IsOutputAsNoted(folder, run, outputs[t], of_lines[t], threads, hooks)) return false;
    const fs::path beside = WithoutSlash(outputs.front().path);
    for (const StageNote::Kept& kept : notes.back().kept) {
      const InputFile file(folder / TemporaryOf(run.content.files, ScratchName(beside, kept.file)));
      const auto read = [&](std::uint64_t at, std::span<std::byte> out) { file.ReadAt(at, out); };
      if (kept.offset_bytes > file.size() || kept.n_bytes > file.size() - kept.offset_bytes ||
          HashBytes(read, kept.offset_bytes, kept.n_bytes) != kept.hash)
        return false;
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInput) throw;
    return false;  // one of them is missing or cannot be read
  }
  return true;
}

StageNote::Kept Stages::Keep(std::string_view what, const ScratchFile& file,
                             std::uint64_t offset_bytes, std::uint64_t n_bytes) {
  const auto read = [&](std::uint64_t at, std::span<std::byte> out) { file.ReadAt(at, out); };
  return {std::string(what), offset_bytes, n_bytes, HashBytes(read, offset_bytes, n_bytes)};
}

Stages::Stages(Outputs* outputs, std::span<const std::string> noted,
               std::span<const StreamTarget> targets, fs::path beside)
    : outputs_(outputs), targets_(targets), beside_(std::move(beside)) {
  done_ = ParseNotes(noted, targets);
}

void Stages::Note(const StageNote& note) {
  if (outputs_ != nullptr) outputs_->NoteStage(FormatNote(note, targets_));
}

ScratchFile& Stages::AddScratch(std::string_view what, std::uint64_t size_bytes) {
  return outputs_->AddScratch(beside_, ScratchName(beside_, what), size_bytes);
}

std::string FingerprintOf(const ConvertOptions& options, const SourceModel& source,
                          std::span<const Output> outputs, const CalibrationPlan* calibration) {
  std::string text = fmt::format("phiq {}\n", PHIQ_VERSION);
  const auto add = [&]<typename... Args>(fmt::format_string<Args...> format, Args&&... args) {
    text += fmt::format(format, std::forward<Args>(args)...) + '\n';
  };
  std::set<fs::path> files;
  for (const StoredPiece& piece : source.stored->pieces()) {
    add("{} {} {} {}", piece.name, piece.type, piece.n_rows, piece.row_elements);
    files.insert(piece.file);
  }
  for (const std::string& adapter : options.adapters) {
    std::error_code ignored;
    if (!fs::is_directory(adapter, ignored)) continue;
    for (const std::string& name : NamesInFolder(adapter)) files.insert(fs::path(adapter) / name);
  }
  for (const fs::path& file : files) {
    std::error_code ignored;
    add("{} {} {}", fs::weakly_canonical(file, ignored).string(), fs::file_size(file, ignored),
        fs::last_write_time(file, ignored).time_since_epoch().count());
  }
  for (const Output& output : outputs) {
    add("{} {} {}", output.path.filename().string(), output.plan->format, output.plan->type);
    for (const PlacedFile& file : output.layout.files)
      add("{} {} {}", file.name, file.size_bytes,
          Sha256Hex({reinterpret_cast<const char*>(file.head.data()), file.head.size()}));
    for (const PlacedArray& array : output.layout.arrays) {
      const PlanLine& line = output.plan->lines[array.line];
      add("{} {} {} {} {} {}", line.display_name(), EncodingName(line.encoding), line.method->name,
          array.array, array.file, array.offset_bytes);
    }
  }
  add("nan {} overflow {}", static_cast<int>(options.nan), static_cast<int>(options.overflow));
  if (calibration != nullptr) {
    const bool has_sums = !options.calibration->imatrix_out.empty();
    add("text {} {} {} {} {} {} {}", calibration->sha256, calibration->n_tokens,
        calibration->n_held_back, calibration->shrink, calibration->widest_block,
        calibration->n_corrected, has_sums);
  }
  return Sha256Hex(text);
}

}  // namespace phiq
