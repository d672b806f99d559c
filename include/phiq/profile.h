// Target devices: which format and precision a device wants.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace phiq {

enum class Format { kGguf, kOnnx, kOpenVino, kMlx };
// What an ONNX graph is made for.
enum class ExecutionProvider : std::uint8_t { kCpu, kCuda, kDml, kWebGpu };
std::string_view ExecutionProviderName(ExecutionProvider ep) noexcept;  // "cpu"
// Throws   kUsage: no such word (with a suggestion).
ExecutionProvider ParseExecutionProvider(std::string_view text);

enum class Precision { kInt4, kInt8, kFp16, kBf16, kFp32 };

std::string_view FormatName(Format format) noexcept;           // "gguf"
std::string_view PrecisionName(Precision precision) noexcept;  // "int4"
std::span<const Format> AllFormats() noexcept;
// Throws   kUsage: no such word (with a suggestion).
Format ParseFormat(std::string_view text);
Precision ParsePrecision(std::string_view text);

struct Profile {
  std::string name;
  std::string description;
  Format format = Format::kGguf;
  Precision default_precision = Precision::kInt4;
  std::vector<Precision> allowed;       // the default is one of them
  std::optional<std::string> type;      // the format's own type instead of the default precision
  std::optional<ExecutionProvider> ep;  // ONNX: what the graph is made for
};

// The built-in profiles.
std::span<const Profile> BuiltinProfiles();

// A built-in profile by name, or a JSON file with the keys of Profile.
// Throws   kUsage: unknown name (with a suggestion); kInput, kBadData, kUnsupported: the file.
Profile LoadProfile(const std::string& name_or_path);

// The JSON of a profile, as LoadProfile reads it.
std::string ProfileToJson(const Profile& profile);

// A format and one of its types or recipes, in the official spelling.
struct Target {
  Format format = Format::kGguf;
  std::string type;  // "Q4_K_M"
};

// What --profile, --format, --precision and --type mean together; any of them may be absent (GGUF
// and int4 when all are). A type that the user names needs no leave of the profile.
//
// Throws   kUsage: options that contradict each other, a precision that the profile does not allow
//          (naming those it does), an unknown type (with a suggestion).
//          kUnsupported: a type that phiq does not write, saying why.
Target ResolveTarget(const Profile* profile, std::optional<Format> format,
                     std::optional<Precision> precision, const std::optional<std::string>& type);

}  // namespace phiq
