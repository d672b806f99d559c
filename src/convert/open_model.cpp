// Asks every format whether it knows what stands there; all else is a checkpoint, which may be in
// the hub cache.
#include "convert/open_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "checkpoint/lookalike.h"
#include "checkpoint/open_input.h"
#include "convert/record.h"
#include "formats/format.h"
#include "io/input_file.h"
#include "phiq/text.h"
#include "stored/adapter.h"
#include "stored/checkpoint_model.h"
#include "stored/restored_model.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

std::string OriginOf(const StoredModel& model, const std::string& path) {
  std::string origin = fmt::format("{} {}", model.kind(), TotalsOf(model.pieces()).types);
  try {
    const std::optional<StoredRecord> stored = FindRecord(model, path);
    if (stored && stored->record.has_checksums)
      origin += fmt::format(", record {}", stored->record.of_text.Hex());
  } catch (const Error&) {  // a record that is damaged, or of a file in parts, names nothing
  }
  return origin;
}

// "": it cannot be opened, of which the format's own message tells.
std::string FirstBytes(const fs::path& path) {
  constexpr std::size_t kSniffBytes = 64;
  try {
    const InputFile file(path);
    std::string first(std::min<std::uint64_t>(file.size(), kSniffBytes), '\0');
    file.ReadAt(0, std::as_writable_bytes(std::span(first)));
    return first;
  } catch (const Error&) {
    return "";
  }
}

// Of a file or folder that cannot be read: what one of its files is instead, as downloads leave it.
void RefuseLookalikes(const fs::path& path) {
  std::error_code failed;
  std::vector<fs::path> files = {path};
  if (fs::is_directory(path, failed)) {
    files.clear();
    for (const std::string& name : NamesInFolder(path)) files.push_back(path / name);
  }
  for (const fs::path& file : files) {
    if (!fs::is_regular_file(file, failed)) continue;
    if (const Lookalike* found = FindLookalike(FirstBytes(file))) {
      throw Error(ErrorCode::kBadData, fmt::format("is {}", found->what))
          .In(file.native())
          .Hint(found->hint);
    }
  }
}

std::unique_ptr<StoredModel> OpenOf(const Format& format, const std::string& path,
                                    const WarningFn& warn) {
  try {
    return format.open(path, warn);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kBadData) RefuseLookalikes(path);
    throw;
  }
}

// The first format takes whatever file no other knows: of one that does not begin as its files do
// the diagnosis of a checkpoint that is none tells more.
std::unique_ptr<StoredModel> OpenWithDiagnosis(const Source& source, const WarningFn& warn) {
  try {
    return OpenOf(*source.format, source.path, warn);
  } catch (const Error& error) {
    const bool may_be_other = !source.folder && source.format == Formats().front() &&
                              error.offset_bytes() == 0 &&
                              !LowerAscii(source.path).ends_with(source.format->file_ending);
    if (may_be_other) LocateCheckpoint(source.path, warn);
    throw;
  }
}

// A folder whose weights are plain floats is a checkpoint, whoever wrote it; nullptr: it is none,
// but of some format, which is known then.
std::unique_ptr<StoredModel> OpenAsCheckpoint(Source& source, const CheckpointOptions& options,
                                              const WarningFn& warn) {
  if (!source.folder) return nullptr;
  std::vector<Warning> warnings;
  const auto tell = [&] {
    for (const Warning& warning : warnings) warn(warning);
  };
  std::unique_ptr<StoredModel> model;
  try {
    model = OpenCheckpointModel(*source.folder, options,
                                [&](const Warning& warning) { warnings.push_back(warning); });
  } catch (const Error&) {
    source.format = RecognizeFormat(source.path);
    if (source.format != nullptr) return nullptr;
    tell();
    throw;
  }
  tell();
  return model;
}

// Opens a file of some format as the checkpoint that it was.
std::unique_ptr<StoredModel> OpenRestored(Source& source, const CheckpointOptions& options,
                                          const WarningFn& warn, std::string& lossy_types,
                                          std::string& origin) {
  const auto refuse = [&](std::string_view option) {
    throw Error(ErrorCode::kUsage, fmt::format("{}: {} is {}, and only checkpoints have it", option,
                                               Escape(source.path), source.format->title));
  };
  if (!options.ignore_extra.empty()) refuse("--ignore-extra");
  if (options.pad_vocab) refuse("--pad-vocab");
  std::unique_ptr<StoredModel> model = OpenWithDiagnosis(source, warn);
  lossy_types = LossyTypesOf(*model);
  origin = OriginOf(*model, source.path);
  if (!lossy_types.empty()) {
    warn({ErrorCode::kBadData,
          fmt::format("{}: its weights are {}: quality was lost before, and what is lost now comes "
                      "on top of it",
                      Escape(source.path), lossy_types)});
  }
  model = Restore(std::move(model), std::move(source.beside), warn);
  for (const std::string& adapter : options.adapters)
    model = MergeAdapter(std::move(model), adapter, warn);
  return model;
}

}  // namespace

std::unique_ptr<StoredModel> OpenStoredModel(const std::string& path, const WarningFn& warn,
                                             const CheckpointOptions& options) {
  const WarningFn warn_or_not = WarnOrIgnore(warn);
  if (const Format* format = RecognizeFormat(path)) return OpenOf(*format, path, warn_or_not);
  return OpenCheckpointModel(LocateCheckpoint(path, warn_or_not), options, warn_or_not);
}

const SideFiles& Source::files() const noexcept {
  if (beside) return *beside;
  return folder ? *folder : NoSideFiles();
}

Source LocateSource(const std::string& path, const WarningFn& warn, const std::string& tokenizer) {
  Source source;
  try {
    source = LocateCheckpoint(path, warn);
  } catch (const Error&) {
    source.format = RecognizeFormat(path);
    if (source.format == nullptr) throw;
    source.name = fs::path(path).stem().string();
  }
  source.path = path;
  if (!tokenizer.empty()) source.beside = LocateCheckpoint(tokenizer, warn);
  return source;
}

SourceModel OpenSourceModel(Source source, const CheckpointOptions& options, const WarningFn& warn,
                            const ExpressionFn& expression) {
  std::string lossy_types, origin;
  std::unique_ptr<StoredModel> model = OpenAsCheckpoint(source, options, WarnOrIgnore(warn));
  if (model == nullptr) {
    model = OpenRestored(source, options, WarnOrIgnore(warn), lossy_types, origin);
  } else if (source.beside) {
    model = Restore(std::move(model), std::move(source.beside), warn);
  }
  if (expression) {
    const Expression wanted = expression(model->config());
    model = Express(std::move(model), wanted);
  }
  SourceModel opened(std::move(model), warn);
  opened.lossy_types = lossy_types;
  opened.origin = origin;
  return opened;
}

}  // namespace phiq
