// The one exception of the library, its codes, and warnings.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace phiq {

// The classes of failure. Their values are the program's exit codes: never renumber.
enum class ErrorCode : int {
  kNo = 1,            // the tool worked and the answer is "no" (verify, inspect --check, eval)
  kUsage = 2,         // bad option, missing operand, output equals input
  kBadData = 3,       // malformed, truncated, inconsistent or refused input content
  kInput = 4,         // input not found, not readable, not a regular file
  kOutput = 5,        // output exists, disk full, write, fsync or rename failed
  kUnsupported = 6,   // well-formed, but nothing that phiq does
  kResources = 7,     // out of memory, threads or file descriptors
  kTryAgain = 8,      // output locked by a live run, input changed while it was read
  kNumeric = 9,       // NaN or Inf in weights, a scale that overflows
  kPartial = 10,      // a batch of which some jobs failed
  kInternal = 70,     // a bug of phiq
  kInterrupted = 130  // stop requested; the program dies of the signal instead of returning this
};

// "usage", "bad-data", ...: the class name of `--json`.
std::string_view ErrorClassName(ErrorCode code) noexcept;

// What went wrong and where. what() is the whole line without the "phiq: error: " prefix:
//   PATH: tensor 'NAME': MESSAGE at byte OFFSET (HINT)
// with the parts that were not set left out. Text from files goes through Escape (text.h)
// before it enters MESSAGE; PATH and NAME are escaped here.
class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message);

  // Each sets a part once; a part that is set already stays (the innermost place is the exact one).
  Error& In(std::string_view path) &;
  Error&& In(std::string_view path) &&;
  Error&& Tensor(std::string_view name) &&;
  Error&& At(std::uint64_t offset_bytes) &&;
  Error&& Hint(std::string_view hint) &&;

  // The same with `to` for `from` in every part: a file that was read under another name.
  Error Renamed(const std::string& from, const std::string& to) const;

  ErrorCode code() const noexcept { return code_; }
  const std::string& path() const noexcept { return path_; }
  const std::string& tensor() const noexcept { return tensor_; }
  std::optional<std::uint64_t> offset_bytes() const noexcept { return offset_bytes_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  void Compose();

  ErrorCode code_;
  std::string message_, path_, tensor_, hint_, text_;
  std::optional<std::uint64_t> offset_bytes_;
};

// Something a user should know although the work goes on. `code` is the exit code that --werror
// gives it: kBadData or kNumeric.
struct Warning {
  ErrorCode code = ErrorCode::kBadData;
  std::string text;  // "PATH: what" as in an error line; escaped
};

// Receives warnings as they are found. May throw (that is how --werror works). Never called from
// two threads at once.
using WarningFn = std::function<void(const Warning&)>;
// `warn`, or a function that does nothing where the caller gave none.
WarningFn WarnOrIgnore(const WarningFn& warn);

}  // namespace phiq
