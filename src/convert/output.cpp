// The one place that asks which format an output has.
#include "convert/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "formats/gguf/layout.h"
#include "formats/mlx/layout.h"
#include "formats/onnx/layout.h"
#include "formats/openvino/layout.h"
#include "io/temporaries.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

// "out.gguf" and "-00001-of-00003" give "out-00001-of-00003.gguf".
fs::path PartPath(const fs::path& output, std::string_view suffix) {
  if (suffix.empty()) return output;
  fs::path part = output;
  part.replace_filename(output.stem().string() + std::string(suffix) + ".gguf");
  return part;
}

bool IsPartOf(std::string_view stem, std::string_view name) {
  constexpr std::string_view kForm = "-NNNNN-of-NNNNN.gguf";
  if (name.size() != stem.size() + kForm.size() || !name.starts_with(stem)) return false;
  name.remove_prefix(stem.size());
  return std::ranges::equal(name, kForm, [](char c, char form) {
    return form == 'N' ? c >= '0' && c <= '9' : c == form;
  });
}

// The names of all parts that stand beside the output, "out-00002-of-00003.gguf" beside "out.gguf".
std::vector<std::string> PartsOf(const fs::path& output) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(ParentFolder(output), ignored)) {
    std::string name = entry.path().filename().string();
    if (IsPartOf(output.stem().string(), name)) names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  return names;
}

// What an output records of how it treated odd weights, so that `phiq verify` can do the same.
std::vector<std::pair<std::string, std::string>> PoliciesOf(const ConvertOptions& options) {
  std::vector<std::pair<std::string, std::string>> policies;
  if (options.nan == NanPolicy::kZero) policies.emplace_back("phiq.nan_policy", "zero");
  if (options.overflow == OverflowPolicy::kClamp)
    policies.emplace_back("phiq.overflow_policy", "clamp");
  return policies;
}

void LayOutGguf(const SourceModel& source, const ConvertOptions& options, const WarningFn& warn,
                Output& output) {
  gguf::Metadata extra;
  for (auto& [key, value] : PoliciesOf(options)) extra.emplace_back(key, value);
  const gguf::Metadata metadata = gguf::BuildMetadata(source.model, output.plan, extra, warn);
  for (Decision& decision : gguf::TokenizerDecisions(source.model))
    output.plan.decisions.push_back(std::move(decision));
  gguf::Layout layout = gguf::MakeLayout(output.plan, metadata, options.split_max_bytes);
  for (std::size_t f = 0; f < layout.files.size(); ++f) {
    gguf::PlacedFile& file = layout.files[f];
    for (std::size_t i = 0; i < file.tensors.size(); ++i) {
      const gguf::PlacedTensor& tensor = file.tensors[i];
      const std::uint64_t end = tensor.offset_bytes + output.plan.lines[tensor.line].size_bytes;
      const std::uint64_t next =
          i + 1 < file.tensors.size() ? file.tensors[i + 1].offset_bytes : file.size_bytes;
      output.layout.arrays.push_back({tensor.line, 0, f, tensor.offset_bytes, next - end, Order()});
    }
    output.files.push_back(PartPath(output.path, file.name_suffix));
    output.layout.files.push_back(
        {output.files.back().filename().string(), std::move(file.header), file.size_bytes});
  }
}

// Names that phiq may write into a folder of the format, made from this checkpoint.
std::vector<std::string> OwnedFiles(Format format, const SideFiles& side_files) {
  if (format == Format::kMlx) return mlx::OwnedFiles(side_files);
  return format == Format::kOnnx ? onnx::OwnedFiles() : openvino::OwnedFiles();
}

void SetFolder(OutputLayout layout, const SideFiles& side_files, Output& output) {
  output.layout = std::move(layout);
  output.owned = OwnedFiles(output.plan.format, side_files);
  for (const PlacedFile& file : output.layout.files)
    output.files.push_back(output.path / file.name);
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
  std::string name = LowerAscii(model_name);
  if (options.format == Format::kGguf) return fmt::format("{}-{}.gguf", name, options.type);
  name += fmt::format("-{}-{}", FormatName(options.format), options.type);
  if (options.onnx.activations == Activations::kDynamic) name += "-dynamic";
  if (options.onnx.ep != ExecutionProvider::kCpu)
    name += fmt::format("-{}", ExecutionProviderName(options.onnx.ep));
  return name;
}

void CheckOutputName(const PlanOptions& target, const fs::path& path, const SideFiles& side_files,
                     const OutputOptions& options) {
  if (target.format == Format::kGguf) {
    CheckOutputPath(path, options);
  } else {
    StagedFolder::Check(path, OwnedFiles(target.format, side_files), options);
  }
}

Output LayOut(const SourceModel& source, Plan plan, const ConvertOptions& options, fs::path path,
              const WarningFn& warn) {
  Output output;
  output.plan = std::move(plan);
  output.path = std::move(path);
  switch (output.plan.format) {
    case Format::kGguf:
      LayOutGguf(source, options, warn, output);
      break;
    case Format::kOnnx:
      SetFolder(onnx::MakeLayout(source.stored->side_files(), source.model, output.plan,
                                 PoliciesOf(options)),
                source.stored->side_files(), output);
      break;
    case Format::kOpenVino:
      SetFolder(openvino::MakeLayout(source.stored->side_files(), source.model, output.plan,
                                     PoliciesOf(options)),
                source.stored->side_files(), output);
      break;
    case Format::kMlx:
      SetFolder(mlx::MakeLayout(source.stored->side_files(), source.model, output.plan,
                                PoliciesOf(options)),
                source.stored->side_files(), output);
      break;
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
  for (std::size_t i = 0; i < files_.size(); ++i) files_[i]->WriteAt(0, layout.files[i].head);
}

StreamTarget OutputWriter::stream() const { return {&output_.plan, &output_.layout, files_}; }

fs::path OutputWriter::staged_path() const {
  return folder_ != nullptr ? folder_->staged_path() : files_.front()->staged_path();
}

bool OutputStands(const fs::path& path, bool is_split) {
  std::error_code ignored;
  if (!is_split) return fs::exists(fs::symlink_status(path, ignored));
  return std::ranges::any_of(PartsOf(path), [](const std::string& name) {
    return name.find("-00001-of-") != std::string::npos;
  });
}

void WarnOfOtherParts(const Output& output, const WarningFn& warn) {
  if (output.layout.is_folder) return;
  std::vector<std::string> others = PartsOf(output.path);
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
