// Limits on what files may ask for. Each has a test.
#pragma once

#include <cstddef>
#include <cstdint>

namespace phiq::limits {

inline constexpr std::uint64_t kSafetensorsHeaderBytes = 100'000'000;  // safetensors' own limit
inline constexpr int kSafetensorsJsonDepth = 8;                        // headers need 3
inline constexpr int kJsonDepth = 64;
// Of a file that is kept as a tree, about 100 bytes each; the largest known has 5,000.
inline constexpr std::size_t kJsonValues = 500'000;
inline constexpr std::size_t kJsonKeys = 1U << 21;  // of the open objects; a vocabulary has 2^20
inline constexpr std::uint64_t kConfigBytes = 16ULL << 20;
inline constexpr std::uint64_t kIndexBytes = 64ULL << 20;
inline constexpr std::size_t kTensors = 65'536;
inline constexpr std::size_t kShards = 1'024;
inline constexpr std::uint64_t kTokenizerJsonBytes = 256ULL << 20;
inline constexpr std::uint64_t kTokenizerModelBytes = 64ULL << 20;
inline constexpr std::uint32_t kVocab = 1'048'576;
// Sizes of a model; far above every published one.
inline constexpr std::uint32_t kHidden = 65'536;
inline constexpr std::uint32_t kIntermediate = 1'048'576;
inline constexpr std::uint32_t kLayers = 1'024;
inline constexpr std::uint32_t kHeads = 1'024;
inline constexpr std::uint32_t kExperts = 1'024;
inline constexpr std::uint32_t kPositions = 0x7FFFFFFF;
inline constexpr std::size_t kTokenBytes = 65'536;
inline constexpr std::size_t kMerges = 4'194'304;
// Of what an encoder takes; the published tokenizers stay far below.
inline constexpr std::size_t kPieceBytes = 256;  // of a piece with a score, and of an added token
inline constexpr std::size_t kReplacementBytes = 4;  // of what a normalizer puts in
inline constexpr std::size_t kSplitExpressionBytes = 16'384;
inline constexpr std::size_t kEncodedTextBytes = 1'000'000'000;  // positions have 32 bits
inline constexpr std::uint64_t kChatTemplateBytes = 1ULL << 20;
inline constexpr std::size_t kRank = 8;
inline constexpr std::size_t kNameBytes = 512;
inline constexpr std::size_t kGgufNameBytes = 63;
inline constexpr std::size_t kGgufRank = 4;
inline constexpr std::size_t kGgufEntries = 65'536;  // tensors, and key/value records
inline constexpr std::uint64_t kGgufKeyBytes = 65'535;
inline constexpr std::uint64_t kGgufStringBytes = 1ULL << 30;
inline constexpr std::uint64_t kGgufArrayElements = 1ULL << 30;
inline constexpr std::uint32_t kGgufAlignment = 1U << 20;
inline constexpr std::uint64_t kOnnxFileBytes = (1ULL << 31) - 1;  // protobuf's own limit
inline constexpr std::size_t kOnnxDepth = 100;  // messages in messages, protobuf's default
inline constexpr std::uint64_t kOnnxEntries = 1'000'000;  // nodes, and initializers
// What a parsed model may take in memory besides twice the bytes of its file: millions of empty
// messages or strings are small only on disk.
inline constexpr std::uint64_t kOnnxParsedBytes = 192ULL << 20;
inline constexpr int kOnnxExternalKeys = 64;  // of one tensor; five are known
inline constexpr std::size_t kOnnxDataFiles = 1'024;
inline constexpr std::uint64_t kOnnxBlockSize = 65'536;
inline constexpr std::size_t kOnnxProblems = 100;  // listed; the rest is counted
inline constexpr std::uint64_t kXmlBytes = 64ULL << 20;
inline constexpr std::size_t kXmlDepth = 64;  // elements in elements; graphs of ours need 6
// Parsed, an element takes about twelve times its shortest form, and an attribute five times.
inline constexpr std::size_t kXmlElements = 1'000'000;
inline constexpr std::size_t kXmlAttributes = 2'000'000;
inline constexpr std::size_t kXmlElementAttributes = 1'024;
inline constexpr std::size_t kIrLayers = 65'536;
inline constexpr std::size_t kIrProblems = 100;              // listed; the rest is counted
inline constexpr std::uint64_t kEvalTextBytes = 1ULL << 30;  // text, or token ids, of `phiq eval`
inline constexpr unsigned kThreads = 1'024;

}  // namespace phiq::limits
