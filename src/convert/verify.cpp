// `phiq verify`: decodes an output and holds it against the checkpoint it was made from.
#include "convert/verify_formats.h"
#include "formats/onnx/reader.h"
#include "formats/openvino/reader.h"
#include "io/parallel.h"
#include "phiq/inspect.h"

namespace phiq {

Verification Verify(const VerifyOptions& options, const Hooks& hooks) {
  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  if (onnx::LooksLikeOnnx(options.output)) return VerifyOnnx(options, threads, hooks);
  if (openvino::LooksLikeOpenVino(options.output)) return VerifyOpenVino(options, threads, hooks);
  return VerifyGguf(options, threads, hooks);
}

}  // namespace phiq
