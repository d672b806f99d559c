// The schema (which fields are messages) comes from the library's own descriptors.
#include "formats/onnx/wire_check.h"

#include <fmt/format.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/limits.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr std::uint32_t kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kStartGroup = 3,
                        kEndGroup = 4, kFixed32 = 5;

// What one thing takes in memory once parsed, with its place in our own tables; sizes of the
// library's classes, the allocator's share and a vector's spare room, rounded up.
constexpr std::uint64_t kMessageMemory = 320, kTensorMemory = 768, kTextMemory = 128,
                        kNumberMemory = 16;

// A file read front to back through one buffer.
class ByteSource {
 public:
  explicit ByteSource(const InputFile& file) : file_(file), buffer_(kBufferBytes) {}

  std::uint64_t position() const { return start_ + next_; }
  // Requires position() < file.size().
  std::uint8_t Take() {
    if (next_ == size_) Fill();
    return static_cast<std::uint8_t>(buffer_[next_++]);
  }
  // Requires n <= file.size() - position().
  void Skip(std::uint64_t n) {
    if (n <= size_ - next_) {
      next_ += static_cast<std::size_t>(n);
    } else {
      start_ = position() + n;
      next_ = size_ = 0;
    }
  }

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{1} << 16;

  void Fill() {
    start_ += next_;
    next_ = 0;
    size_ =
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), file_.size() - start_));
    file_.ReadAt(start_, std::span(buffer_).first(size_));
  }

  const InputFile& file_;
  std::vector<std::byte> buffer_;
  std::uint64_t start_ = 0;          // of the buffer, in the file
  std::size_t next_ = 0, size_ = 0;  // in the buffer
};

class Walker {
 public:
  explicit Walker(const InputFile& file) : file_(file), source_(file) {}

  WireFacts Walk() {
    frames_.push_back({::onnx::ModelProto::descriptor(), file_.size(), 0});
    while (!frames_.empty()) {
      const Frame& top = frames_.back();
      field_start_ = source_.position();
      if (field_start_ < top.end) {
        ReadField();
      } else {
        if (top.group != 0) throw Bad(fmt::format("group {} is not ended", top.group));
        frames_.pop_back();
      }
    }
    return std::move(facts_);
  }

 private:
  struct Frame {
    const Descriptor* type;  // nullptr: unknown to the schema
    std::uint64_t end;       // of the group: of what encloses it
    std::uint32_t group;     // its field number; 0: a message
  };

  Error Bad(std::string_view what) const {
    return Error(ErrorCode::kBadData, fmt::format("broken protobuf: {}", what))
        .In(file_.path().native())
        .At(field_start_)
        .Hint("incomplete download, or not an ONNX file?");
  }
  Error TooMuch(std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message))
        .In(file_.path().native())
        .At(field_start_);
  }

  std::uint64_t BytesLeft(std::uint64_t end) const { return end - source_.position(); }

  // At most 10 bytes make a number of 64 bits.
  std::uint64_t Varint(std::uint64_t end, int max_bytes = 10) {
    std::uint64_t value = 0;
    for (int i = 0; i < max_bytes; ++i) {
      if (BytesLeft(end) == 0) throw Bad("number cut short");
      const std::uint64_t byte = source_.Take();
      value |= (byte & 0x7FU) << (7 * i);
      if (byte < 0x80) return value;
    }
    throw Bad(fmt::format("number of more than {} bytes", max_bytes));
  }

  std::uint64_t Length(std::uint64_t end) {
    const std::uint64_t length = Varint(end);
    if (length > BytesLeft(end)) {
      throw Bad(fmt::format("field of {} bytes, but {} are left", length, BytesLeft(end)));
    }
    return length;
  }

  void SkipFixed(std::uint64_t n, std::uint64_t end) {
    if (n > BytesLeft(end)) {
      throw Bad(fmt::format("field of {} bytes, but {} are left", n, BytesLeft(end)));
    }
    source_.Skip(n);
  }

  void ReadField() {
    const Frame top = frames_.back();
    const std::uint64_t tag = Varint(top.end, 5);
    if (tag > UINT32_MAX) throw Bad(fmt::format("field tag {}", tag));
    const auto number = static_cast<std::uint32_t>(tag >> 3);
    const auto wire_type = static_cast<std::uint32_t>(tag & 7U);
    if (number == 0) throw Bad("field number 0");
    const FieldDescriptor* const field =
        top.type == nullptr ? nullptr : top.type->FindFieldByNumber(static_cast<int>(number));
    switch (wire_type) {
      case kVarint:
        Varint(top.end);
        return Account(kNumberMemory);
      case kFixed64:
        SkipFixed(8, top.end);
        return Account(kNumberMemory);
      case kFixed32:
        SkipFixed(4, top.end);
        return Account(kNumberMemory);
      case kLengthDelimited:
        return ReadBytes(field, top.end);
      case kStartGroup:
        Account(kMessageMemory);
        return Push({nullptr, top.end, number});
      case kEndGroup:
        if (top.group != number) throw Bad(fmt::format("end of group {} without a start", number));
        frames_.pop_back();
        return;
      default:
        throw Bad(fmt::format("wire type {}", wire_type));
    }
  }

  void ReadBytes(const FieldDescriptor* field, std::uint64_t enclosing_end) {
    const std::uint64_t length = Length(enclosing_end);
    const std::uint64_t end = source_.position() + length;
    if (field == nullptr) {
      source_.Skip(length);
      return Account(kTextMemory + length);
    }
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        Count(*field);
        return Push({field->message_type(), end, 0});
      case FieldDescriptor::CPPTYPE_STRING:
        NoteRawData(*field, length);
        source_.Skip(length);
        return Account(kTextMemory + length);
      default:
        if (field->is_repeated()) return ReadPacked(*field, end);
        source_.Skip(length);  // of another type than the schema's: protobuf takes it as unknown
        return Account(kTextMemory + length);
    }
  }

  void ReadPacked(const FieldDescriptor& field, std::uint64_t end) {
    const bool is_fixed32 = field.type() == FieldDescriptor::TYPE_FLOAT;
    const bool is_fixed64 = field.type() == FieldDescriptor::TYPE_DOUBLE;
    if (is_fixed32 || is_fixed64) {
      const std::uint64_t size = is_fixed32 ? 4 : 8, length = BytesLeft(end);
      if (length % size != 0) {
        throw Bad(fmt::format("{} packed bytes are no whole numbers of {} bytes", length, size));
      }
      source_.Skip(length);
      return Account(length / size * kNumberMemory);
    }
    while (BytesLeft(end) > 0) {
      Varint(end);
      Account(kNumberMemory);
    }
  }

  void Push(Frame frame) {
    // The outermost message is not counted, as protobuf does not.
    if (frames_.size() > limits::kOnnxDepth) {
      throw TooMuch(fmt::format("protobuf messages nested too deeply, {} levels are allowed",
                                limits::kOnnxDepth));
    }
    frames_.push_back(frame);
  }

  // frames_ are the model, its graph and then what is in the graph. (A graph may also be two levels
  // down in training_info, but never one.)
  bool InMainGraph() const {
    return frames_.size() == 2 && frames_.back().type == ::onnx::GraphProto::descriptor();
  }

  void NoteRawData(const FieldDescriptor& field, std::uint64_t length) {
    if (frames_.size() == 3 && frames_[1].type == ::onnx::GraphProto::descriptor() &&
        frames_[2].type == ::onnx::TensorProto::descriptor() && field.name() == "raw_data") {
      facts_.raw_data.back() = ByteRange{source_.position(), length};
    }
  }

  // Requires the frame of the enclosing message on top.
  void Count(const FieldDescriptor& field) {
    const bool is_node = field.message_type() == ::onnx::NodeProto::descriptor();
    const bool is_tensor = field.message_type() == ::onnx::TensorProto::descriptor();
    const bool is_initializer = is_tensor && field.name() == "initializer";
    if (is_initializer && InMainGraph()) facts_.raw_data.emplace_back();
    if (is_node && ++n_nodes_ > limits::kOnnxEntries) throw TooMany("nodes");
    if (is_initializer && ++n_initializers_ > limits::kOnnxEntries) throw TooMany("initializers");
    Account(is_tensor ? kTensorMemory : kMessageMemory);
  }

  Error TooMany(std::string_view what) const {
    return TooMuch(fmt::format("more than {} {}", FormatCount(limits::kOnnxEntries), what));
  }

  void Account(std::uint64_t n_bytes) {
    memory_ += n_bytes;
    const std::uint64_t limit = limits::kOnnxParsedBytes + 2 * file_.size();
    if (memory_ > limit) {
      throw TooMuch(fmt::format("too many small parts: more than {} of memory for a file of {}",
                                FormatBytes(limit), FormatBytes(file_.size())));
    }
  }

  const InputFile& file_;
  ByteSource source_;
  std::vector<Frame> frames_;
  std::uint64_t field_start_ = 0;
  std::uint64_t n_nodes_ = 0, n_initializers_ = 0, memory_ = 0;
  WireFacts facts_;
};

}  // namespace

WireFacts CheckWire(const InputFile& file) {
  if (file.size() > limits::kOnnxFileBytes) {
    throw Error(ErrorCode::kBadData,
                fmt::format("has {} bytes, an .onnx file must be smaller than 2 GiB",
                            FormatCount(file.size())))
        .In(file.path().native())
        .Hint("weights belong in external data");
  }
  return Walker(file).Walk();
}

}  // namespace phiq::onnx
