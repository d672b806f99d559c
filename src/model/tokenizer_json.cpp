#include "model/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/limits.h"
#include "base/sha256.h"
#include "model/encoding_rules.h"
#include "model/side_file.h"
#include "phiq/text.h"

namespace phiq {
namespace {

Error Bad(std::string_view path, std::string message) {
  return Error(ErrorCode::kBadData, std::move(message)).In(path);
}

Error Unsupported(std::string_view path, std::string message) {
  return Error(ErrorCode::kUnsupported, std::move(message)).In(path);
}

std::vector<std::string> ReadVocab(const Json& model, std::string_view path,
                                   std::uint32_t vocab_size) {
  const Json* object = FindMember(model, "vocab");
  if (object == nullptr || !object->is_object())
    throw Bad(path, "model.vocab is missing or not an object");
  if (object->size() > vocab_size) {
    throw Bad(path,
              fmt::format("model.vocab holds {} tokens but the embedding has {} rows (vocab_size)",
                          object->size(), vocab_size));
  }
  std::vector<std::string> vocab;
  for (const auto& [token, id_value] : object->members()) {
    CheckTokenText(token, path);
    const std::uint32_t id = ParseTokenId(id_value, token, path, vocab_size);
    if (id >= vocab.size()) vocab.resize(std::size_t{id} + 1);
    if (!vocab[id].empty()) {
      throw Bad(path, fmt::format("tokens '{}' and '{}' both have id {}", Escape(vocab[id]),
                                  Escape(token), id));
    }
    vocab[id] = token;
  }
  return vocab;
}

std::pair<std::string, std::string> MergeFromText(const std::string& text, std::size_t i,
                                                  std::string_view path) {
  const std::size_t space = text.find(' ');
  if (space == std::string::npos || space == 0 || space + 1 == text.size() ||
      text.find(' ', space + 1) != std::string::npos) {
    throw Bad(path, fmt::format("merge {} '{}' does not have two parts", i, Escape(text)));
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

std::pair<std::string, std::string> MergeFromPair(const Json& value, std::size_t i,
                                                  std::string_view path) {
  if (value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    const auto& left = value[0].text();
    const auto& right = value[1].text();
    if (!left.empty() && !right.empty()) return {left, right};
  }
  throw Bad(path, fmt::format("merge {} {} does not have two parts", i, Show(value)));
}

std::vector<std::pair<std::string, std::string>> ReadMerges(const Json& model,
                                                            std::string_view path) {
  const Json* array = FindMember(model, "merges");
  if (array == nullptr || !array->is_array())
    throw Bad(path, "model.merges is missing or not an array");
  if (array->size() > limits::kMerges) {
    throw Bad(path, fmt::format("model.merges holds {} merges, at most {} are allowed",
                                array->size(), limits::kMerges));
  }
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(array->size());
  for (const Json& value : *array) {
    const std::size_t i = merges.size();
    if (!value.is_string() && !value.is_array()) {
      throw Bad(path,
                fmt::format("merge {} is {}, needs \"a b\" or [\"a\", \"b\"]", i, Show(value)));
    }
    if (value.is_array() != array->front().is_array()) {
      throw Bad(path,
                fmt::format("merge {} is {}, merge 0 has the other form", i, value.type_name()));
    }
    merges.push_back(value.is_string() ? MergeFromText(value.text(), i, path)
                                       : MergeFromPair(value, i, path));
  }
  return merges;
}

std::vector<AddedToken> ReadAddedTokens(const Json& root, std::string_view path,
                                        std::uint32_t vocab_size) {
  std::vector<AddedToken> tokens;
  const Json* array = FindMember(root, "added_tokens");
  if (array == nullptr) return tokens;
  if (!array->is_array())
    throw Bad(path, fmt::format("added_tokens is {}, needs an array", array->type_name()));
  for (const Json& entry : *array)
    tokens.push_back(ParseAddedToken(entry, std::nullopt, path, vocab_size));
  std::ranges::sort(tokens, {}, &AddedToken::id);
  return tokens;
}

// The steps of a component: itself, or the members of its `list` when it is a sequence.
std::vector<const Json*> Steps(const Json* component, std::string_view list) {
  std::vector<const Json*> steps;
  if (component == nullptr) return steps;
  const Json* members = FindMember(*component, list);
  if (members == nullptr || !members->is_array()) return {component};
  for (const Json& step : *members) steps.push_back(&step);
  return steps;
}

bool HasType(const Json* step, std::string_view type) {
  const Json* found = FindMember(*step, "type");
  return found != nullptr && *found == type;
}

bool HasByteLevel(const Json* component, std::string_view list) {
  return std::ranges::any_of(Steps(component, list),
                             [](const Json* step) { return HasType(step, "ByteLevel"); });
}

// What TemplateProcessing adds around a single text. Only a template of several parts says so.
void ReadPostProcessor(const Json& root, TokenizerJson& out) {
  const auto special = [](const Json& part) {
    const Json* token = FindMember(part, "SpecialToken");
    const Json* id = token == nullptr ? nullptr : FindMember(*token, "id");
    return id != nullptr && id->is_string() ? std::optional(id->get<std::string>()) : std::nullopt;
  };
  for (const Json* step : Steps(FindMember(root, "post_processor"), "processors")) {
    const Json* single = FindMember(*step, "single");
    if (!HasType(step, "TemplateProcessing") || single == nullptr || !single->is_array()) continue;
    if (single->size() < 2) continue;
    out.first_special = special(single->front());
    out.last_special = special(single->back());
  }
}

void CheckModel(const Json& model, std::string_view path) {
  const Json* type = FindMember(model, "type");
  if (type != nullptr && *type != "BPE") {
    throw Unsupported(path, fmt::format("model.type {} is not supported, only BPE", Show(*type)));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json* affix = FindMember(model, key);
    if (affix != nullptr && *affix != "") {
      throw Unsupported(path, fmt::format("model.{} {} is not supported", key, Show(*affix)));
    }
  }
}

}  // namespace

void CheckTokenText(std::string_view text, std::string_view path) {
  if (text.empty()) throw Bad(path, "a token has no text");
  if (text.size() > limits::kTokenBytes) {
    throw Bad(path, fmt::format("token '{}' has {} bytes, at most {} are allowed", Escape(text),
                                text.size(), limits::kTokenBytes));
  }
}

std::uint32_t ParseTokenId(const Json& value, std::string_view token, std::string_view path,
                           std::uint32_t vocab_size) {
  if (!value.is_number_unsigned()) {
    throw Bad(path, fmt::format("token '{}' has id {}, needs a whole number", Escape(token),
                                Show(value)));
  }
  if (value.get<std::uint64_t>() >= vocab_size) {
    throw Bad(path, fmt::format("token '{}' has id {} but the embedding has {} rows (vocab_size)",
                                Escape(token), Show(value), vocab_size));
  }
  return value.get<std::uint32_t>();
}

AddedToken ParseAddedToken(const Json& entry, std::optional<std::uint32_t> id,
                           std::string_view path, std::uint32_t vocab_size) {
  const Json* content = FindMember(entry, "content");
  if (content == nullptr || !content->is_string()) {
    throw Bad(path, fmt::format("added token {} has no content", Show(entry)));
  }
  AddedToken token;
  token.content = content->get<std::string>();
  CheckTokenText(token.content, path);
  const Json* const own_id = entry.find("id");
  token.id = ParseTokenId(id                  ? Json(*id)
                          : own_id != nullptr ? *own_id
                                              : Json(),
                          token.content, path, vocab_size);
  token.special = JsonBool(entry, "special", path).value_or(false);
  token.lstrip = JsonBool(entry, "lstrip", path).value_or(false);
  token.rstrip = JsonBool(entry, "rstrip", path).value_or(false);
  token.single_word = JsonBool(entry, "single_word", path).value_or(false);
  token.normalized = JsonBool(entry, "normalized", path).value_or(!token.special);
  return token;
}

TokenizerJson ParseTokenizerJson(std::string_view text, std::string_view path,
                                 std::uint32_t vocab_size) {
  const Json root = ParseJson(text, path);
  const Json* model = FindMember(root, "model");
  if (model == nullptr || !model->is_object()) throw Bad(path, "model is missing or not an object");
  CheckModel(*model, path);
  TokenizerJson out;
  out.vocab = ReadVocab(*model, path, vocab_size);
  out.merges = ReadMerges(*model, path);
  out.added_tokens = ReadAddedTokens(root, path, vocab_size);
  out.byte_fallback = JsonBool(*model, "byte_fallback", path).value_or(false);
  const Json* pre_tokenizer = FindMember(root, "pre_tokenizer");
  out.byte_level = HasByteLevel(FindMember(root, "decoder"), "decoders") ||
                   HasByteLevel(pre_tokenizer, "pretokenizers");
  if (pre_tokenizer != nullptr) out.pre_tokenizer = *pre_tokenizer;
  out.encoding = ReadEncodingRules(root, path);
  ReadPostProcessor(root, out);
  return out;
}

PreTokenizer RecognizePreTokenizer(const Json& pre_tokenizer, std::string_view path,
                                   std::uint32_t vocab_size) {
  const auto refuse = [&](const std::string& pattern) {
    return Unsupported(path,
                       fmt::format("pre_tokenizer is not one that phiq knows: {} (SHA-256 {})",
                                   Escape(pattern), Sha256Hex(pattern)));
  };
  std::vector<std::string> patterns;
  for (const Json* step :
       Steps(pre_tokenizer.is_null() ? nullptr : &pre_tokenizer, "pretokenizers")) {
    if (HasType(step, "ByteLevel")) continue;
    const Json* pattern = FindMember(*step, "pattern");
    const Json* regex = pattern == nullptr ? nullptr : FindMember(*pattern, "Regex");
    if (!HasType(step, "Split") || regex == nullptr || !regex->is_string())
      throw refuse(step->dump());
    patterns.push_back(regex->get<std::string>());
  }
  if (patterns.empty()) {  // some exports leave the expression out; each vocabulary belongs to one
    if (vocab_size == 100'352) return PreTokenizer::kCl100k;
    if (vocab_size == 200'064) return PreTokenizer::kO200k;
    throw refuse("");
  }
  const auto has = [&](std::string_view part) {
    return patterns.front().find(part) != std::string::npos;
  };
  if (patterns.size() > 1) throw refuse(pre_tokenizer.dump());
  if (has("\\p{Lu}") && has("\\p{Lt}")) return PreTokenizer::kO200k;
  if (has("\\p{N}{1,3}") && has("\\p{L}+") && !has("\\p{Lu}")) return PreTokenizer::kCl100k;
  throw refuse(patterns.front());
}

}  // namespace phiq
