// Offsets are numbers of fixed size in a flatbuffer, so the header is built twice: to learn its
// size, and with what follows from that.
#include "formats/litert/bundle.h"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "base/endian.h"
#include "formats/litert/bundle_generated.h"
#include "phiq/error.h"

namespace phiq::litert {
namespace {

namespace fb = flatbuffers;

constexpr std::array<std::uint32_t, 3> kVersion = {kBundleVersion, 7, 0};

fb::Offset<bundle::KeyValuePair> Pair(fb::FlatBufferBuilder& builder, const std::string& key,
                                      const std::string& value) {
  const auto text = bundle::CreateStringValue(builder, builder.CreateString(value));
  const auto name = builder.CreateString(key);
  return bundle::CreateKeyValuePair(builder, name, bundle::Value::StringValue, text.Union());
}

// An offset of 0 would not be stored.
std::vector<std::byte> Serialize(std::span<const Section> sections, const std::string& author) {
  fb::FlatBufferBuilder builder;
  const auto system = bundle::CreateSystemMetadata(
      builder, builder.CreateVector(std::vector{Pair(builder, "Authors", author)}));
  std::vector<fb::Offset<bundle::SectionObject>> objects;
  for (const Section& section : sections) {
    std::vector<fb::Offset<bundle::KeyValuePair>> items;
    for (const auto& [key, value] : section.items) items.push_back(Pair(builder, key, value));
    const auto items_at = builder.CreateVector(items);
    objects.push_back(bundle::CreateSectionObject(
        builder, items_at, std::max<std::uint64_t>(section.begin, 1),
        std::max<std::uint64_t>(section.end, 1), static_cast<std::uint8_t>(section.type)));
  }
  const auto section_metadata =
      bundle::CreateSectionMetadata(builder, builder.CreateVector(objects));
  builder.Finish(bundle::CreateHeader(builder, system, section_metadata));
  const std::span<const std::byte> bytes = std::as_bytes(
      std::span(builder.GetBufferPointer(), static_cast<std::size_t>(builder.GetSize())));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::vector<std::byte> MakeBundleHeader(std::span<Section> sections, const std::string& author) {
  std::uint64_t end = kHeaderBegin + Serialize(sections, author).size();
  for (Section& section : sections) {
    const std::uint64_t size_bytes = section.end - section.begin;
    section.begin = AlignUp(end, kSectionAlignment).value();
    section.end = end = section.begin + size_bytes;
  }
  const std::vector<std::byte> header = Serialize(sections, author);
  std::vector<std::byte> bytes(static_cast<std::size_t>(sections.front().begin));
  const std::span<std::byte> out(bytes);
  std::ranges::copy(std::as_bytes(std::span(kBundleMagic)), bytes.begin());
  for (std::size_t i = 0; i < kVersion.size(); ++i) StoreLe(kVersion[i], out, 8 + 4 * i);
  StoreLe(std::uint64_t{kHeaderBegin + header.size()}, out, 24);
  std::ranges::copy(header, bytes.begin() + kHeaderBegin);
  return bytes;
}

std::vector<std::byte> CompressTokenizer(std::span<const std::byte> json) {
  uLongf n_bytes = compressBound(json.size());
  std::vector<std::byte> bytes(sizeof(std::uint64_t) + n_bytes);
  StoreLe(std::uint64_t{json.size()}, std::span(bytes), 0);
  const int status =
      compress2(reinterpret_cast<Bytef*>(bytes.data() + sizeof(std::uint64_t)), &n_bytes,
                reinterpret_cast<const Bytef*>(json.data()), json.size(), Z_BEST_COMPRESSION);
  if (status != Z_OK) throw Error(ErrorCode::kInternal, "zlib cannot compress the tokenizer");
  bytes.resize(sizeof(std::uint64_t) + n_bytes);
  return bytes;
}

}  // namespace phiq::litert
