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
#include "checkpoint/open_input.h"

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

Chosen ChoiceOf(const LineResult& result, const PlanLine& line) {
  if (result.method == line.method) return Chosen::kPlanned;
  return result.method == &kImatrix ? Chosen::kImatrix : Chosen::kReference;
}

}  // namespace

std::string FormatNote(const StageNote& note, std::span<const StreamTarget> targets) {
  std::string text = fmt::format("{},{}", note.result.n_nan_zeroed, note.n_tokens);
  for (const LineResult& result : note.result.lines) {
    const PlanLine& line = targets[result.target].plan->lines[result.line];
    text += fmt::format(";line,{},{},{},{},{},{},{},{}", result.target, result.line, result.expert,
                        static_cast<int>(ChoiceOf(result, line)), result.hash.Hex(),
                        result.n_clamped, Hex(result.squared_error), Hex(result.squared_weight));
    if (result.products)
      text += fmt::format(",{},{},{}", Hex(result.products->held_back),
                          Hex(result.products->reference), Hex(result.products->seen));
  }
  for (const auto& [target, input] : note.corrections)
    text += fmt::format(";input,{},{},{},{},{},{},{}", target, input.role, input.layer,
                        input.expert, input.is_used ? 1 : 0, Hex(input.without), Hex(input.with));
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

Stages::Stages(Outputs* outputs, std::span<const std::string> noted,
               std::span<const StreamTarget> targets, fs::path beside)
    : outputs_(outputs), targets_(targets), beside_(std::move(beside)) {
  for (const std::string& text : noted) {
    std::optional<StageNote> note = ParseNote(text, targets);
    if (!note) break;
    done_.push_back(std::move(*note));
  }
}

void Stages::Note(const StageNote& note) {
  if (outputs_ != nullptr) outputs_->NoteStage(FormatNote(note, targets_));
}

ScratchFile& Stages::AddScratch(std::string_view what, std::uint64_t size_bytes) {
  return outputs_->AddScratch(beside_, fmt::format("{}.{}", beside_.filename().string(), what),
                              size_bytes);
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
