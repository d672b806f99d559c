// Asks every format whether it knows what stands there; all else is a checkpoint, which may be in
// the hub cache.
#include "convert/open_model.h"

#include <fmt/format.h>

#include <utility>

#include "formats/format.h"
#include "stored/checkpoint_model.h"

namespace phiq {
namespace {

// What is no checkpoint may be an output: then the message says so.
template <typename Open>
auto AsCheckpoint(const std::string& path, const Open& open) {
  try {
    return open();
  } catch (const Error& error) {
    const Format* format = RecognizeFormat(path);
    if (error.code() != ErrorCode::kInput || format == nullptr) throw;
    try {
      format->open(path, [](const Warning&) {});
    } catch (const Error&) {
      throw error;
    }
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("is {}, which has not all that a conversion starts from", format->title))
        .In(path)
        .Hint("a checkpoint has: config.json, *.safetensors and the tokenizer's files");
  }
}

}  // namespace

std::unique_ptr<StoredModel> OpenStoredModel(const std::string& path, const WarningFn& warn,
                                             const CheckpointOptions& options) {
  const WarningFn warn_or_not = WarnOrIgnore(warn);
  if (const Format* format = RecognizeFormat(path)) return format->open(path, warn_or_not);
  return OpenCheckpointModel(LocateCheckpoint(path, warn_or_not), options, warn_or_not);
}

CheckpointFolder LocateSource(const std::string& path, const WarningFn& warn) {
  return AsCheckpoint(path, [&] { return LocateCheckpoint(path, warn); });
}

SourceModel OpenSourceModel(CheckpointFolder folder, const CheckpointOptions& options,
                            const WarningFn& warn, const ExpressionFn& expression) {
  return AsCheckpoint(folder.path().string(), [&] {
    std::unique_ptr<StoredModel> model = OpenCheckpointModel(folder, options, warn);
    if (expression) {
      const Expression wanted = expression(model->config());
      model = Express(std::move(model), wanted);
    }
    return SourceModel(std::move(model), warn);
  });
}

}  // namespace phiq
