// A protobuf of three fields: a schema and its library would be more to keep than this loop.
#include "model/sentencepiece.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>

#include <bit>
#include <cmath>
#include <functional>
#include <string>
#include <utility>

#include "base/limits.h"
#include "base/utf8.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::uint32_t kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5;

// Protobuf's wire format with errors that name the byte.
class Wire {
 public:
  Wire(std::string_view bytes, std::string_view path)
      : path_(path),
        end_(static_cast<int>(bytes.size())),
        stream_(reinterpret_cast<const std::uint8_t*>(bytes.data()), end_) {}

  int position() const { return stream_.CurrentPosition(); }
  bool IsAt(int end) const { return position() == end; }
  int end() const { return end_; }

  std::uint32_t Tag() {
    const std::uint32_t tag = stream_.ReadTag();
    if (tag >> 3 == 0) throw Bad("not a protobuf field");
    return tag;
  }
  std::uint64_t Varint() {
    std::uint64_t value = 0;
    if (!stream_.ReadVarint64(&value)) throw Bad("number cut short or malformed");
    return value;
  }
  std::uint32_t Fixed32() {
    std::uint32_t value = 0;
    if (!stream_.ReadLittleEndian32(&value)) throw Bad("number cut short");
    return value;
  }
  // The length of what follows, which ends at or before `limit`.
  int Length(int limit) {
    const std::uint64_t length = Varint();
    if (length > static_cast<std::uint64_t>(limit - position())) {
      throw Bad(fmt::format("field of {} bytes, but {} are left", length, limit - position()));
    }
    return static_cast<int>(length);
  }
  std::string Text(int limit) {
    std::string text;
    if (!stream_.ReadString(&text, Length(limit))) throw Bad("text cut short");
    return text;
  }
  void Skip(std::uint32_t tag, int limit) {
    switch (tag & 7U) {
      case kVarint:
        Varint();
        return;
      case kFixed64:
        SkipBytes(8, limit);
        return;
      case kLengthDelimited:
        SkipBytes(Length(limit), limit);
        return;
      case kFixed32:
        SkipBytes(4, limit);
        return;
      default:
        throw Bad(fmt::format("protobuf field of unknown wire type {}", tag & 7U));
    }
  }
  Error Bad(std::string_view what) const {
    return Error(ErrorCode::kBadData, fmt::format("not a SentencePiece model: {}", what))
        .In(path_)
        .At(static_cast<std::uint64_t>(position()))
        .Hint("incomplete download?");
  }

 private:
  void SkipBytes(int n, int limit) {
    if (n > limit - position() || !stream_.Skip(n)) throw Bad("field cut short");
  }

  std::string_view path_;
  int end_;
  google::protobuf::io::CodedInputStream stream_;
};

constexpr std::uint32_t FieldKey(std::uint32_t field, std::uint32_t wire_type) {
  return field << 3 | wire_type;
}

SentencePiece ReadPiece(Wire& wire, std::size_t index) {
  SentencePiece piece;
  const int length = wire.Length(wire.end());
  const int end = wire.position() + length;
  while (!wire.IsAt(end)) {
    const std::uint32_t tag = wire.Tag();
    if (tag == FieldKey(1, kLengthDelimited)) {
      piece.text = wire.Text(end);
    } else if (tag == FieldKey(2, kFixed32)) {
      piece.score = std::bit_cast<float>(wire.Fixed32());
    } else if (tag == FieldKey(3, kVarint)) {
      const std::uint64_t type = wire.Varint();
      if (type < 1 || type > 6)
        throw wire.Bad(fmt::format("piece {} has unknown type {}", index, type));
      piece.type = static_cast<PieceType>(type);
    } else {
      wire.Skip(tag, end);
    }
    if (wire.position() > end) throw wire.Bad(fmt::format("piece {} runs past its end", index));
  }
  if (!std::isfinite(piece.score))
    throw wire.Bad(fmt::format("piece {} has score {}", index, piece.score));
  if (piece.text.empty()) throw wire.Bad(fmt::format("piece {} has no text", index));
  if (piece.text.size() > limits::kTokenBytes) {
    throw wire.Bad(fmt::format("piece {} has {} bytes, at most {} are allowed", index,
                               piece.text.size(), limits::kTokenBytes));
  }
  if (FindInvalidUtf8(piece.text)) {
    throw wire.Bad(fmt::format("piece {} '{}' is not UTF-8", index, Escape(piece.text)));
  }
  return piece;
}

void CheckUnknownPiece(const std::vector<SentencePiece>& pieces, const Wire& wire) {
  std::size_t first = pieces.size();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].type != PieceType::kUnknown) continue;
    if (first != pieces.size()) {
      throw wire.Bad(fmt::format("pieces {} and {} both have the type 'unknown', needs exactly one",
                                 first, i));
    }
    first = i;
  }
  if (first == pieces.size()) {
    throw wire.Bad(fmt::format("none of the {} pieces has the type 'unknown', needs exactly one",
                               pieces.size()));
  }
}

// The settings that decide how text is cut; the others tell how the model was trained.
class Settings {
 public:
  void ReadTrainer(Wire& wire) {
    ReadMessage(wire, "trainer settings", [&](std::uint32_t tag, int) {
      if (tag == FieldKey(3, kVarint)) {
        model_type_ = wire.Varint();
      } else if (tag == FieldKey(24, kVarint)) {
        suffix_spaces_ = wire.Varint() != 0;
      } else {
        return false;
      }
      return true;
    });
  }

  void ReadNormalizer(Wire& wire) {
    ReadMessage(wire, "normalizer settings", [&](std::uint32_t tag, int end) {
      if (tag == FieldKey(2, kLengthDelimited)) {
        has_character_map_ = !wire.Text(end).empty();
      } else if (tag == FieldKey(3, kVarint)) {
        add_dummy_prefix_ = wire.Varint() != 0;
      } else if (tag == FieldKey(4, kVarint)) {
        removes_spaces_ = wire.Varint() != 0;
      } else if (tag == FieldKey(5, kVarint)) {
        escapes_spaces_ = wire.Varint() != 0;
      } else {
        return false;
      }
      return true;
    });
  }

  bool add_dummy_prefix() const { return add_dummy_prefix_; }

  std::string ForeignSetting() const {
    constexpr std::uint64_t kBpe = 2;
    if (model_type_ != kBpe) return fmt::format("model type {} is not BPE", model_type_);
    if (has_character_map_) return "normalizer with a character map";
    if (removes_spaces_) return "remove_extra_whitespaces";
    if (!escapes_spaces_) return "escape_whitespaces false";
    if (suffix_spaces_) return "treat_whitespace_as_suffix";
    return {};
  }

 private:
  // `read` reads the field behind its tag, in a message that ends at `end`, or gives false.
  static void ReadMessage(Wire& wire, std::string_view what,
                          const std::function<bool(std::uint32_t tag, int end)>& read) {
    const int length = wire.Length(wire.end());
    const int end = wire.position() + length;
    while (!wire.IsAt(end)) {
      const std::uint32_t tag = wire.Tag();
      if (!read(tag, end)) wire.Skip(tag, end);
      if (wire.position() > end) throw wire.Bad(fmt::format("the {} run past their end", what));
    }
  }

  // As SentencePiece has them where the file says nothing.
  std::uint64_t model_type_ = 1;  // unigram
  bool suffix_spaces_ = false;
  bool has_character_map_ = false;
  bool add_dummy_prefix_ = true;
  bool removes_spaces_ = true;
  bool escapes_spaces_ = true;
};

}  // namespace

SentencePieceModel ParseSentencePieceModel(std::string_view bytes, std::string_view path) {
  std::vector<SentencePiece> pieces;
  Settings settings;
  bool has_trainer = false;
  bool has_normalizer = false;
  Wire wire(bytes, path);
  while (!wire.IsAt(wire.end())) {
    const std::uint32_t tag = wire.Tag();
    if (tag == FieldKey(1, kLengthDelimited)) {
      if (pieces.size() == limits::kVocab)
        throw wire.Bad(fmt::format("more than {} pieces", limits::kVocab));
      pieces.push_back(ReadPiece(wire, pieces.size()));
      continue;
    }
    if (tag == FieldKey(2, kLengthDelimited)) {
      settings.ReadTrainer(wire);
      has_trainer = true;
    } else if (tag == FieldKey(3, kLengthDelimited)) {
      settings.ReadNormalizer(wire);
      has_normalizer = true;
    } else {
      wire.Skip(tag, wire.end());
    }
  }
  if (!has_trainer || !has_normalizer) {
    throw wire.Bad("it ends before the settings that follow the pieces");
  }
  CheckUnknownPiece(pieces, wire);
  return {std::move(pieces), settings.add_dummy_prefix(), settings.ForeignSetting()};
}

}  // namespace phiq
