// The formats that phiq writes and reads: their names, types and options, as words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace phiq {

enum class Precision : std::uint8_t { kInt4, kInt8, kFp16, kBf16, kFp32 };

std::string_view PrecisionName(Precision precision) noexcept;  // "int4"
// Throws   kUsage: no such word (with a suggestion).
Precision ParsePrecision(std::string_view text);

// A type name that --type takes.
struct TypeName {
  std::string_view name;
  std::string_view description;  // "4.9 bits, K-quants, the usual choice"
};

// An option that a format has.
struct Knob {
  std::string_view name;                    // "group-size": --group-size on the command line
  std::string_view value;                   // what help calls its value: "N"; "": a switch
  std::string_view meaning;                 // alike in all formats that have it
  std::string_view range;                   // what this format takes; "": the meaning says it
  std::span<const std::string_view> words;  // all that it takes, the default first; empty: numbers
  bool is_encoding = false;                 // says how weights are stored
};

// "gguf", "onnx", ...: the first is the default.
std::span<const std::string_view> FormatNames();
// Throws   kUsage: no such format (with a suggestion).
void CheckFormatName(std::string_view name);

// Of a format, which all of these throw kUsage for when there is none of that name.
std::string_view FormatTitle(std::string_view format);     // as people write it: "ONNX"
std::vector<TypeName> TypeNames(std::string_view format);  // largest first
std::span<const Knob> KnobsOf(std::string_view format);
// Besides "reference" and CommonMethods of phiq/plan.h.
std::span<const std::string_view> MethodsOf(std::string_view format);
// The file that an output is ends in this; "": it is a folder.
std::string_view FileEnding(std::string_view format);

// The official spelling of a type name ("q4_k" -> "Q4_K_M").
// Throws   kUsage: unknown (with a suggestion). kUnsupported: known, but not written, saying why.
std::string ParseType(std::string_view format, std::string_view name);

// The type that a precision means in a format ("Q4_K_M").
// Throws kUsage: the format lacks the precision (naming those it has).
std::string TypeOfPrecision(std::string_view format, Precision precision);

}  // namespace phiq
