// Composes the one line that a user reads.
#include "phiq/error.h"

#include <fmt/format.h>

#include <utility>

#include "phiq/text.h"

namespace phiq {
namespace {

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from)) {
    result.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  return result.append(text);
}

}  // namespace

std::string_view ErrorClassName(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kNo:
      return "no";
    case ErrorCode::kUsage:
      return "usage";
    case ErrorCode::kBadData:
      return "bad-data";
    case ErrorCode::kInput:
      return "input";
    case ErrorCode::kOutput:
      return "output";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kResources:
      return "resources";
    case ErrorCode::kTryAgain:
      return "try-again";
    case ErrorCode::kNumeric:
      return "numeric";
    case ErrorCode::kPartial:
      return "partial";
    case ErrorCode::kInternal:
      return "internal";
    case ErrorCode::kInterrupted:
      return "interrupted";
  }
  return "internal";
}

Error::Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {
  Compose();
}

Error& Error::In(std::string_view path) & {
  if (path_.empty()) path_ = path;
  Compose();
  return *this;
}

Error&& Error::In(std::string_view path) && { return std::move(this->In(path)); }

Error&& Error::Tensor(std::string_view name) && {
  if (tensor_.empty()) tensor_ = name;
  Compose();
  return std::move(*this);
}

Error&& Error::At(std::uint64_t offset_bytes) && {
  if (!offset_bytes_) offset_bytes_ = offset_bytes;
  Compose();
  return std::move(*this);
}

Error&& Error::Hint(std::string_view hint) && {
  if (hint_.empty()) hint_ = hint;
  Compose();
  return std::move(*this);
}

Error Error::Renamed(const std::string& from, const std::string& to) const {
  Error renamed = *this;
  if (from.empty()) return renamed;
  renamed.path_ = Replaced(path_, from, to);
  renamed.message_ = Replaced(message_, Escape(from), Escape(to));
  renamed.hint_ = Replaced(hint_, Escape(from), Escape(to));
  renamed.Compose();
  return renamed;
}

void Error::Compose() {
  text_.clear();
  if (!path_.empty()) text_ += Escape(path_) + ": ";
  if (!tensor_.empty()) text_ += fmt::format("tensor '{}': ", Escape(tensor_));
  text_ += message_;
  if (offset_bytes_) text_ += fmt::format(" at byte {}", *offset_bytes_);
  if (!hint_.empty()) text_ += fmt::format(" ({})", hint_);
}

WarningFn WarnOrIgnore(const WarningFn& warn) {
  if (warn) return warn;
  return [](const Warning&) {};
}

}  // namespace phiq
