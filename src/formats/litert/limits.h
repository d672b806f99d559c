// Limits on what LiteRT files may ask for. Each has a test.
#pragma once

#include <cstddef>
#include <cstdint>

namespace phiq::limits {

// Of the tables of a model, without weights: those of Phi-4 have 20 MB in int8.
inline constexpr std::uint64_t kLiteRtFlatbufferBytes = 64ULL << 20;
inline constexpr std::uint32_t kLiteRtTables = 1'000'000;
inline constexpr std::uint64_t kLiteRtBundleHeaderBytes = 1ULL << 20;
inline constexpr std::uint32_t kLiteRtBundleTables = 65'536;
inline constexpr std::size_t kLiteRtMetadata = 1'024;
inline constexpr std::uint64_t kLlmMetadataBytes = 8ULL << 20;
// A tokenizer.json by its section: 4 to 8 are known.
inline constexpr std::uint64_t kLiteRtTokenizerRatio = 64;

}  // namespace phiq::limits
