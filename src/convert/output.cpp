// What of an output is alike in all formats: its name, its files, how they are written.
#include "convert/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "formats/format.h"
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
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(ParentFolder(output), ignored)) {
    std::string name = entry.path().filename().string();
    if (IsPartOf(output.stem().string(), ending, name)) names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  return names;
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

void CheckOutputName(const PlanOptions& target, const fs::path& path, const SideFiles& source,
                     const OutputOptions& options) {
  const Format& format = FindFormat(target.format);
  if (format.file_ending.empty()) {
    StagedFolder::Check(path, format.owned_files(source), options);
  } else {
    CheckOutputPath(path, options);
  }
}

Output LayOut(const SourceModel& source, std::unique_ptr<Plan> plan, fs::path path,
              const WarningFn& warn) {
  const Format& format = FindFormat(plan->format);
  const SideFiles& side_files = source.stored->side_files();
  Output output;
  plan->is_bare = IsBareName(format, path.filename().string());
  output.layout = format.lay_out(source.model, side_files, *plan, warn);
  output.path = std::move(path);
  if (output.layout.is_folder) output.owned = format.owned_files(side_files);
  for (PlacedFile& file : output.layout.files) {
    output.files.push_back(output.layout.is_folder ? output.path / file.name
                                                   : PartPath(output.path, file.name));
    file.name = output.files.back().filename().string();
  }
  output.plan = std::move(plan);
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
  for (std::size_t i = 0; i < files_.size(); ++i) files_[i]->WriteAt(0, layout.files[i].head);
}

StreamTarget OutputWriter::stream() const { return {output_.plan.get(), &output_.layout, files_}; }

fs::path OutputWriter::staged_path() const {
  return folder_ != nullptr ? folder_->staged_path() : files_.front()->staged_path();
}

bool OutputStands(const fs::path& path, const PlanOptions& target) {
  const Format& format = FindFormat(target.format);
  std::error_code ignored;
  if (!HasParts(format, target)) return fs::exists(fs::symlink_status(path, ignored));
  return std::ranges::any_of(PartsOf(path, format.file_ending), [](const std::string& name) {
    return name.find("-00001-of-") != std::string::npos;
  });
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
