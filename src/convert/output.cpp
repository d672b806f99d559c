// What of an output is alike in all formats: its name, its files, how they are written.
#include "convert/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/json.h"
#include "checkpoint/open_input.h"
#include "formats/format.h"
#include "formats/side_files.h"
#include "io/input_file.h"
#include "io/system.h"
#include "io/temporaries.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

// "out.gguf" and "-00001-of-00003.gguf" give "out-00001-of-00003.gguf".
fs::path PartPath(const fs::path& output, const std::string& suffix) {
  if (suffix.empty()) return output;
  fs::path part = output;
  part.replace_filename(output.stem().string() + suffix);
  return part;
}

bool IsPartOf(std::string_view stem, std::string_view ending, std::string_view name) {
  constexpr std::string_view kForm = "-NNNNN-of-NNNNN";
  if (!name.starts_with(stem) || !name.ends_with(ending) ||
      name.size() != stem.size() + kForm.size() + ending.size())
    return false;
  return std::ranges::equal(name.substr(stem.size(), kForm.size()), kForm, [](char c, char form) {
    return form == 'N' ? c >= '0' && c <= '9' : c == form;
  });
}

// The names of all parts that stand beside the output, "out-00002-of-00003.gguf" beside "out.gguf".
std::vector<std::string> PartsOf(const fs::path& output, std::string_view ending) {
  std::error_code ignored;
  const fs::path folder = ParentFolder(output);
  if (!fs::is_directory(folder, ignored)) return {};
  std::vector<std::string> names = NamesInFolder(folder);
  std::erase_if(names, [&](const std::string& name) {
    return !IsPartOf(output.stem().string(), ending, name);
  });
  return names;
}

std::vector<std::string> OwnedFiles(const Format& format, const SideFiles& source) {
  std::vector<std::string> owned = format.owned_files(source);
  owned.emplace_back(kRecordFile);
  return owned;
}

// Where the placeholder of a record stands.
RecordPlace FindPlaceholder(const OutputLayout& layout, const std::string& placeholder) {
  for (std::size_t f = 0; f < layout.files.size(); ++f) {
    const std::vector<std::byte>& head = layout.files[f].head;
    const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
    if (const std::size_t at = text.find(placeholder); at != std::string_view::npos) return {f, at};
  }
  throw Error(ErrorCode::kInternal, "the format has no place for the record");
}

void CopyFromHeads(const OutputLayout& layout, std::size_t file, std::uint64_t offset_bytes,
                   std::span<std::byte> out) {
  const std::vector<std::byte>& head = layout.files[file].head;
  std::ranges::fill(out, std::byte{});  // what lies between arrays
  if (offset_bytes >= head.size()) return;
  const std::size_t n = std::min<std::uint64_t>(out.size(), head.size() - offset_bytes);
  std::copy_n(head.begin() + static_cast<std::ptrdiff_t>(offset_bytes), n, out.begin());
}

// From here on only checksums of tensors are missing. `placeholder`: stands for the record in one
// of the heads; empty: the record is to be a file.
void PlaceRecord(Output& output, const std::string& placeholder) {
  OutputLayout& layout = output.layout;
  if (placeholder.empty()) {
    // Its own size is as wide as any.
    layout.files.push_back(WholeFile(std::string(kRecordFile), {}));
    output.record = RecordText(RecordOf(*output.plan, layout));
    layout.files.back() = WholeFile(std::string(kRecordFile), BytesOf(output.record.blank()));
    output.record_place = {layout.files.size() - 1, 0};
  } else {
    output.record_place = FindPlaceholder(layout, placeholder);
  }
  const Record record = RecordOf(*output.plan, layout);
  output.record = RecordText(record);
  if (!placeholder.empty()) output.record.Fill(placeholder.size());
  std::vector<std::byte>& head = layout.files[output.record_place.file].head;
  const std::vector<std::byte> text = BytesOf(output.record.blank());
  std::ranges::copy(text,
                    head.begin() + static_cast<std::ptrdiff_t>(output.record_place.offset_bytes));
  output.of_files = HashHeads(record, output.record_place, output.record.blank().size(),
                              [&](std::size_t file, std::uint64_t at, std::span<std::byte> out) {
                                CopyFromHeads(layout, file, at, out);
                              });
}

}  // namespace

std::uint64_t Output::size_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const PlacedFile& file : layout.files) sum += file.size_bytes;
  return sum;
}

std::uint64_t Output::head_bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const PlacedFile& file : layout.files) sum += file.head.size();
  return sum;
}

std::string DefaultName(const std::string& model_name, const PlanOptions& options) {
  const Format& format = FindFormat(options.format);
  const std::string name = LowerAscii(model_name);
  const std::string type =
      options.type + (format.name_suffix == nullptr ? "" : format.name_suffix(options));
  return format.file_ending.empty() ? fmt::format("{}-{}-{}", name, format.name, type)
                                    : fmt::format("{}-{}{}", name, type, format.file_ending);
}

bool HasParts(const Format& format, const PlanOptions& options) {
  return !format.parts_knob.empty() && FindKnob(options, format.parts_knob).has_value();
}

namespace {

// Weights that no format of ours has written are somebody's only copy, whatever their files are
// called: not even --force replaces them.
void RefuseCheckpoint(const fs::path& folder) {
  std::error_code ignored;
  if (fs::is_symlink(folder, ignored) || !fs::is_directory(folder, ignored) ||
      fs::exists(folder / kRecordFile, ignored))
    return;
  const std::vector<std::string> names = NamesInFolder(folder);
  if (std::ranges::none_of(names, [](const std::string& name) {
        return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
      }))
    return;
  bool is_quantized = false;
  try {
    constexpr std::uint64_t kMostBytes = 16U << 20;
    const std::string path = (folder / "config.json").string();
    const Json config = ParseJson(ReadWholeFile(path, kMostBytes), path);
    is_quantized =
        config.find("quantization") != nullptr || config.find("quantization_config") != nullptr;
  } catch (const Error&) {  // nobody can say what the weights are
  }
  if (is_quantized) return;
  throw Error(ErrorCode::kOutput, "not replaced: it holds a checkpoint that is not quantized")
      .In(folder.native())
      .Hint("move it away, or choose another -o");
}

}  // namespace

void CheckOutputName(const PlanOptions& target, const fs::path& path, const SideFiles& source,
                     const OutputOptions& options) {
  const Format& format = FindFormat(target.format);
  if (format.file_ending.empty()) {
    StagedFolder::Check(path, OwnedFiles(format, source), options);
    if (options.force) RefuseCheckpoint(path.has_filename() ? path : path.parent_path());
  } else {
    CheckOutputPath(path, options);
  }
}

Output LayOut(const SourceModel& source, std::unique_ptr<Plan> plan, bool has_parts, fs::path path,
              const WarningFn& warn) {
  const Format& format = FindFormat(plan->format);
  const SideFiles& side_files = source.stored->side_files();
  Output output;
  plan->is_bare = IsBareName(format, path.filename().string());
  std::string placeholder;
  if (format.keeps_record) {
    // Nothing else is so long a run of it.
    placeholder.assign(LongestRecord(*plan, has_parts), '#');
    plan->facts.emplace_back(kRecordFact, placeholder);
  }
  output.layout = format.lay_out(source.model, side_files, *plan, warn);
  if (format.keeps_record) plan->facts.pop_back();
  output.path = std::move(path);
  output.plan = std::move(plan);
  if (output.layout.is_folder) output.owned = OwnedFiles(format, side_files);
  if (output.layout.is_folder || format.keeps_record) PlaceRecord(output, placeholder);
  for (PlacedFile& file : output.layout.files) {
    output.files.push_back(output.layout.is_folder ? output.path / file.name
                                                   : PartPath(output.path, file.name));
    file.name = output.files.back().filename().string();
  }
  return output;
}

OutputWriter::OutputWriter(const Output& output, Outputs& outputs) : output_(output) {
  const OutputLayout& layout = output.layout;
  if (layout.is_folder) {
    StagedFolder& folder = outputs.AddFolder(output.path, output.owned);
    for (const PlacedFile& placed : layout.files)
      files_.push_back(&folder.Create(placed.name, placed.size_bytes));
    folder_ = &folder;
  } else {
    std::vector<Outputs::NewFile> files;
    for (std::size_t i = 0; i < layout.files.size(); ++i)
      files.push_back({output.files[i], layout.files[i].size_bytes});
    files_ = outputs.AddFiles(files, layout.root);
  }
  for (std::size_t i = 0; i < files_.size(); ++i) WriteHead(i);
}

// Arrays that lie in it are left out: of a run that is gone on with, they stand there already.
void OutputWriter::WriteHead(std::size_t file) {
  const std::span<const std::byte> head = output_.layout.files[file].head;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> taken;  // begin, end
  for (const PlacedArray& array : output_.layout.arrays) {
    if (array.file != file || array.offset_bytes >= head.size()) continue;
    const PlanLine& line = output_.plan->lines[array.line];
    const std::size_t row_bytes = ArrayRowBytes(line.encoding, array.array, line.row_elements());
    taken.emplace_back(array.offset_bytes,
                       array.offset_bytes + SizeBytes({array.order, line.n_rows(), row_bytes}));
  }
  taken.emplace_back(head.size(), head.size());
  std::ranges::sort(taken);
  std::uint64_t at = 0;
  for (const auto& [begin, end] : taken) {
    if (at < begin) files_[file]->WriteAt(at, head.subspan(at, begin - at));
    at = std::max(at, end);
  }
}

StreamTarget OutputWriter::stream() const { return {output_.plan.get(), &output_.layout, files_}; }

void OutputWriter::WriteRecord(std::span<const Hash128> of_lines) const {
  if (output_.record.blank().empty()) return;
  const RecordPlace& place = output_.record_place;
  if (files_[place.file]->is_stream()) return;
  const std::string text = output_.record.With(output_.of_files, of_lines);
  files_[place.file]->WriteAt(place.offset_bytes, std::as_bytes(std::span(text)));
}

fs::path OutputWriter::staged_path() const {
  return folder_ != nullptr ? folder_->staged_path() : files_.front()->staged_path();
}

bool OutputStands(const fs::path& path, const PlanOptions& target,
                  const std::function<std::vector<fs::path>()>& parts) {
  const auto stands = [](const fs::path& file) { return Stands(file, ErrorCode::kOutput); };
  const Format& format = FindFormat(target.format);
  if (HasParts(format, target))
    return !PartsOf(path, format.file_ending).empty() && std::ranges::all_of(parts(), stands);
  // An empty folder is no output.
  std::error_code ignored;
  const bool is_empty = fs::is_directory(path, ignored) && fs::is_empty(path, ignored);
  return stands(path) && !is_empty;
}

void WarnOfOtherParts(const Output& output, const WarningFn& warn) {
  if (output.layout.is_folder) return;
  std::vector<std::string> others =
      PartsOf(output.path, FindFormat(output.plan->format).file_ending);
  std::erase_if(others, [&](const std::string& name) {
    return std::ranges::find(output.files, fs::path(name), &fs::path::filename) !=
           output.files.end();
  });
  if (others.empty()) return;
  const std::string more =
      others.size() == 1 ? "is a part" : fmt::format("and {} more are parts", others.size() - 1);
  warn({ErrorCode::kBadData,
        fmt::format("{}: '{}' {} of a file split otherwise, and stays",
                    Escape(output.path.string()), Escape(others.front()), more)});
}

}  // namespace phiq
