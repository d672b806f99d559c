// The message has a handful of fields, written one by one: LiteRT-LM's schema is not needed for
// that.
#include "formats/litert/llm_metadata.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

#include "model/generation.h"
#include "phiq/text.h"

namespace phiq::litert {
namespace {

// Numbers of fields. On disk: never renumber.
enum Field : int {
  kStartToken = 1,
  kStopTokens = 2,
  kPromptTemplates = 3,
  kMaxNumTokens = 5,
  kModelType = 6,
  kJinjaTemplate = 7,
  kPadToken = 13,
};

// A message of protobuf, field after field.
class Message {
 public:
  void AddNumber(int field, std::uint64_t value) {
    AppendVarint(static_cast<std::uint32_t>(field) << 3U);
    AppendVarint(value);
  }
  void AddBytes(int field, std::string_view bytes) {
    AppendVarint((static_cast<std::uint32_t>(field) << 3U) | 2U);
    AppendVarint(bytes.size());
    bytes_ += bytes;
  }
  void AddMessage(int field, const Message& message) { AddBytes(field, message.bytes_); }
  const std::string& bytes() const noexcept { return bytes_; }

 private:
  void AppendVarint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7U) bytes_.push_back(static_cast<char>(value | 0x80U));
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

// Reads a message, field after field.
class MessageReader {
 public:
  struct Field {
    std::uint64_t number = 0;
    std::uint64_t value = 0;  // of numbers
    std::string_view bytes;   // of texts and messages
  };

  MessageReader(std::string_view bytes, const std::string& path) : rest_(bytes), path_(path) {}

  // nullopt: no field is left.
  std::optional<Field> Next() {
    if (rest_.empty()) return std::nullopt;
    const std::uint64_t key = Varint();
    Field field{key >> 3U, 0, {}};
    switch (key & 7U) {
      case 0:
        field.value = Varint();
        return field;
      case 1:
        field.bytes = Bytes(8);
        return field;
      case 2:
        field.bytes = Bytes(Varint());
        return field;
      case 5:
        field.bytes = Bytes(4);
        return field;
      default:
        throw Damaged();
    }
  }

 private:
  Error Damaged() const {
    return Error(ErrorCode::kBadData, "the section LlmMetadata is damaged").In(path_);
  }

  std::uint64_t Varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(Bytes(1).front());
      value |= std::uint64_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
    throw Damaged();
  }

  std::string_view Bytes(std::uint64_t n) {
    if (n > rest_.size()) throw Damaged();
    const std::string_view bytes = rest_.substr(0, static_cast<std::size_t>(n));
    rest_.remove_prefix(static_cast<std::size_t>(n));
    return bytes;
  }

  std::string_view rest_;
  const std::string& path_;
};

// The first id of a TokenUnion; nullopt: it holds a text.
std::optional<std::uint32_t> IdOf(std::string_view token, const std::string& path) {
  MessageReader reader(token, path);
  while (const auto field = reader.Next()) {
    if (field->number != 1) continue;
    MessageReader ids(field->bytes, path);
    while (const auto id = ids.Next()) {
      // One number, or several packed.
      if (id->number != 1) continue;
      if (id->bytes.empty()) return static_cast<std::uint32_t>(id->value);
      std::uint32_t value = 0;
      unsigned shift = 0;
      for (const char c : id->bytes.substr(0, 5)) {
        value |= std::uint32_t{static_cast<std::uint8_t>(c) & 0x7FU} << shift;
        if (static_cast<std::uint8_t>(c) < 0x80) return value;
        shift += 7;
      }
    }
  }
  return std::nullopt;
}

// TokenUnion {token_ids {ids}}.
Message TokenOf(std::uint32_t id) {
  Message ids, token;
  ids.AddNumber(1, id);
  token.AddMessage(1, ids);
  return token;
}

// The roles by the tags of Phi's chats, in the order of PromptTemplates' fields.
struct RoleTags {
  std::string_view tag;
  int field;
};
constexpr std::string_view kEndTag = "<|end|>";
constexpr std::array<RoleTags, 3> kRoles = {
    {{"<|user|>", 1}, {"<|assistant|>", 2}, {"<|system|>", 3}}};

// What stands around each message of a chat where no template says it; empty: the tokenizer has not
// Phi's tags.
std::optional<Message> PromptTemplates(const Tokenizer& tokenizer) {
  const auto has = [&](std::string_view tag) {
    return std::ranges::any_of(tokenizer.added_tokens,
                               [&](const AddedToken& token) { return token.content == tag; });
  };
  Message templates;
  if (!has(kEndTag)) return std::nullopt;
  // As Phi-3 and Phi-4-mini have them.
  const std::string_view line_end = tokenizer.kind == TokenizerKind::kSentencePiece ? "\n" : "";
  for (const auto& [tag, field] : kRoles) {
    if (!has(tag)) return std::nullopt;
    Message affixes;
    affixes.AddBytes(1, fmt::format("{}{}", tag, line_end));
    affixes.AddBytes(2, fmt::format("{}{}", kEndTag, line_end));
    templates.AddMessage(field, affixes);
  }
  return templates;
}

bool IsWordCharacter(char c) noexcept {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// Where the expression begins that ends before `end`: a name, and indices behind it
// ("messages[0]"). `end` where there is none within a few bytes, or none behind `least`.
std::size_t StartOfSubject(std::string_view text, std::size_t end, std::size_t least) noexcept {
  constexpr std::size_t kMostBytes = 256;
  least = std::max(least, end - std::min(end, kMostBytes));
  std::size_t begin = end;
  while (begin > least && text[begin - 1] == ']') {
    const std::size_t open = text.substr(least, begin - 1 - least).rfind('[');
    if (open == text.npos) return end;
    begin = least + open;
  }
  const std::size_t name_end = begin;
  while (begin > least && (IsWordCharacter(text[begin - 1]) || text[begin - 1] == '.')) --begin;
  return begin == name_end ? end : begin;
}

// Rewrites what reads the content of a message, in the code of a template: not in texts, comments
// and quoted strings.
class ContentRewriter {
 public:
  explicit ContentRewriter(std::string_view text) : text_(text) {}

  std::optional<std::string> Rewrite() {
    while (at_ < text_.size()) {
      if (!in_code_) {
        StepOutside();
      } else if (!RewriteRead()) {
        StepInCode();
      }
    }
    if (copied_ == 0) return std::nullopt;
    return made_ + std::string(text_.substr(copied_));
  }

 private:
  bool IsAt(std::string_view word) const { return text_.substr(at_).starts_with(word); }

  void SkipBehind(std::string_view word, std::size_t from) {
    const std::size_t end = text_.find(word, from);
    at_ = end == text_.npos ? text_.size() : end + word.size();
  }

  void StepOutside() {
    if (IsAt("{#")) return SkipBehind("#}", at_ + 2);
    in_code_ = IsAt("{{") || IsAt("{%");
    code_begin_ = at_ + 2;
    at_ += in_code_ ? 2 : 1;
  }

  void StepInCode() {
    const char c = text_[at_];
    if (c == '\'' || c == '"') {
      for (++at_; at_ < text_.size() && text_[at_] != c; ++at_)
        if (text_[at_] == '\\') ++at_;
      ++at_;
      return;
    }
    in_code_ = !IsAt("}}") && !IsAt("%}");
    at_ += in_code_ ? 1 : 2;
  }

  bool RewriteRead() {
    constexpr std::array<std::string_view, 3> kReads = {"['content']", "[\"content\"]", ".content"};
    const auto* read = std::ranges::find_if(kReads, [&](std::string_view r) { return IsAt(r); });
    if (read == kReads.end()) return false;
    const std::size_t end = at_ + read->size();
    if (read->front() == '.' && end < text_.size() && IsWordCharacter(text_[end])) return false;
    const std::size_t begin = StartOfSubject(text_, at_, std::max(copied_, code_begin_));
    if (begin == at_) return false;
    made_ += text_.substr(copied_, begin - copied_);
    made_ += fmt::format(
        "({0}|map(attribute='text')|join if {0} is sequence and {0} is not string else {0})",
        text_.substr(begin, end - begin));
    copied_ = at_ = end;
    return true;
  }

  const std::string_view text_;
  std::string made_;
  std::size_t at_ = 0, copied_ = 0, code_begin_ = 0;
  bool in_code_ = false;
};

void AddTemplate(const Tokenizer& tokenizer, GraphPlan& plan, Message& metadata) {
  const auto decide = [&](std::string value, std::string reason) {
    plan.decisions.push_back({"chat template", std::move(value), std::move(reason)});
  };
  if (const std::optional<std::string> rewritten = WithContentParts(tokenizer.chat_template)) {
    metadata.AddBytes(kJinjaTemplate, *rewritten);
    decide("rewritten", "the engine gives a message's content as a list of parts");
    return;
  }
  const std::string_view why = tokenizer.chat_template.empty()
                                   ? "the checkpoint has none"
                                   : "nothing of the checkpoint's reads a message's content";
  if (const std::optional<Message> templates = PromptTemplates(tokenizer)) {
    metadata.AddMessage(kPromptTemplates, *templates);
    decide("by Phi's tags", fmt::format("{}: <|user|>, <|assistant|>, <|system|>, <|end|>", why));
  } else {
    decide("none", fmt::format("{}, and the tokenizer has not Phi's tags", why));
  }
}

}  // namespace

std::optional<std::string> WithContentParts(const std::string& chat_template) {
  return ContentRewriter(chat_template).Rewrite();
}

LlmMetadata ParseLlmMetadata(std::string_view bytes, const std::string& path) {
  LlmMetadata read;
  MessageReader reader(bytes, path);
  while (const auto field = reader.Next()) {
    if (field->number == kStartToken) read.start_token = IdOf(field->bytes, path);
    if (field->number == kStopTokens)
      if (const auto id = IdOf(field->bytes, path)) read.stop_tokens.push_back(*id);
    if (field->number == kMaxNumTokens) read.max_num_tokens = field->value;
    if (field->number == kJinjaTemplate) read.chat_template = field->bytes;
  }
  return read;
}

std::vector<std::byte> MakeLlmMetadata(const SideFiles& source, const Model& model,
                                       GraphPlan& plan) {
  const GenerationConfig generation = ReadGenerationConfig(source, model);
  Message metadata;
  if (model.tokenizer.add_bos == true && model.tokenizer.bos_id)
    metadata.AddMessage(kStartToken, TokenOf(*model.tokenizer.bos_id));
  for (const std::uint32_t id : generation.eos_token_ids)
    metadata.AddMessage(kStopTokens, TokenOf(id));
  plan.decisions.push_back({"stop tokens",
                            fmt::format("{}", fmt::join(generation.eos_token_ids, ", ")),
                            "all that end a text"});
  for (const auto& [id, reason] : generation.added_eos)
    plan.decisions.push_back({"stop tokens", fmt::format("+{}", id), reason});
  Message start_or_template;
  AddTemplate(model.tokenizer, plan, start_or_template);
  metadata.AddNumber(kMaxNumTokens, plan.graph.cache_length);
  Message generic, type;
  type.AddMessage(1, generic);
  metadata.AddMessage(kModelType, type);
  metadata.AddMessage(kPadToken, TokenOf(generation.pad_token_id));
  const std::string bytes = metadata.bytes() + start_or_template.bytes();
  const std::span<const std::byte> view = std::as_bytes(std::span(bytes));
  return {view.begin(), view.end()};
}

}  // namespace phiq::litert
