// `phiq verify`: decodes an output and holds it against the checkpoint it was made from.
#include <filesystem>
#include <system_error>

#include "convert/open_model.h"
#include "convert/verify_formats.h"
#include "io/parallel.h"
#include "phiq/inspect.h"

namespace phiq {

Verification Verify(const VerifyOptions& options, const Hooks& hooks) {
  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  switch (KindOf(options.output)) {
    case InputKind::kOnnx:
      return VerifyOnnx(options, threads, hooks);
    case InputKind::kOpenVino:
      return VerifyOpenVino(options, threads, hooks);
    case InputKind::kMlx:
      return VerifyMlx(options, threads, hooks);
    case InputKind::kCheckpoint:
      if (std::error_code ignored; std::filesystem::is_directory(options.output, ignored)) {
        throw Error(ErrorCode::kInput, "is no folder that phiq writes")
            .In(options.output)
            .Hint("verify wants a GGUF file, or an ONNX, OpenVINO or MLX folder");
      }
      break;
    case InputKind::kGguf:
      break;
  }
  return VerifyGguf(options, threads, hooks);
}

}  // namespace phiq
