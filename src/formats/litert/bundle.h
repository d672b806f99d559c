// The .litertlm container: a header that says where sections lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phiq::litert {

// What a section holds. On disk: never renumber.
enum class SectionType : std::uint8_t {
  kTfLiteModel = 3,
  kSentencePiece = 4,
  kLlmMetadata = 5,
  kZlibTokenizer = 6,  // a u64 of the size, then tokenizer.json as a zlib stream
};

struct Section {
  SectionType type = SectionType::kTfLiteModel;
  std::vector<std::pair<std::string, std::string>> items;
  std::uint64_t begin = 0, end = 0;  // in the file
};

// Magic bytes, version, and where the header ends; behind them its flatbuffer.
inline constexpr std::string_view kBundleMagic = "LITERTLM";
inline constexpr std::uint32_t kBundleVersion = 1;
inline constexpr std::size_t kHeaderBegin = 32;
inline constexpr std::uint64_t kSectionAlignment = 16'384;

// The first bytes of a file whose sections have these types, items and sizes (begin is not looked
// at): the header, and zeros up to the first section. Sets begin and end.
//
// Layout   sections in their order, each at a multiple of kSectionAlignment.
std::vector<std::byte> MakeBundleHeader(std::span<Section> sections, const std::string& author);

// The content of a kZlibTokenizer section.
std::vector<std::byte> CompressTokenizer(std::span<const std::byte> json);

}  // namespace phiq::litert
