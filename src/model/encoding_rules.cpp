#include "model/encoding_rules.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "model/side_file.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// The steps of a component: itself, or the members of its `list` when it is a Sequence.
std::vector<const Json*> Steps(const Json* component, std::string_view list) {
  std::vector<const Json*> steps;
  if (component == nullptr) return steps;
  const Json* members = FindMember(*component, list);
  if (members == nullptr || !members->is_array()) return {component};
  for (const Json& step : *members) steps.push_back(&step);
  return steps;
}

std::string Text(const Json& object, std::string_view key) {
  const Json* value = FindMember(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

bool Is(const Json& object, std::string_view key, bool wanted) {
  const Json* value = FindMember(object, key);
  return value != nullptr && *value == wanted;
}

class RulesReader {
 public:
  RulesReader(const Json& root, std::string_view path) : root_(root), path_(path) {}

  EncodingRules Read() && {
    ReadNormalizer();
    ReadModel();
    if (byte_fallback_) {
      if (const Json* step = FindMember(root_, "pre_tokenizer")) RefuseStep("pre_tokenizer", *step);
    } else {
      ReadPreTokenizer();
    }
    return std::move(rules_);
  }

 private:
  // Prepend and Replace, each at most once and in this order.
  void ReadNormalizer() {
    for (const Json* step : Steps(FindMember(root_, "normalizer"), "normalizers")) {
      const std::string type = Text(*step, "type");
      if (type == "Prepend" && rules_.prepend.empty() && rules_.replaced.empty()) {
        rules_.prepend = Text(*step, "prepend");
        if (IsShort(rules_.prepend)) continue;
      } else if (type == "Replace" && rules_.replaced.empty()) {
        const Json* pattern = FindMember(*step, "pattern");
        rules_.replaced = pattern == nullptr ? "" : Text(*pattern, "String");
        const Json* content = FindMember(*step, "content");
        rules_.replacement = Text(*step, "content");
        if (!rules_.replaced.empty() && content != nullptr && content->is_string() &&
            rules_.replacement.size() <= limits::kReplacementBytes)
          continue;
      }
      RefuseStep("normalizer", *step);
    }
  }
  static bool IsShort(const std::string& text) {
    return !text.empty() && text.size() <= limits::kReplacementBytes;
  }

  void ReadModel() {
    const Json* model = FindMember(root_, "model");
    if (model == nullptr) return;
    byte_fallback_ = Is(*model, "byte_fallback", true);
    rules_.ignore_merges = Is(*model, "ignore_merges", true);
    const Json* dropout = FindMember(*model, "dropout");
    if (dropout != nullptr && *dropout != 0)
      Refuse(fmt::format("model.dropout {}", Show(*dropout)));
  }

  // At most one Split, then ByteLevel. Exports that leave all of it out are known by their
  // vocabulary (Tokenizer::pre_tokenizer).
  void ReadPreTokenizer() {
    bool is_byte_level = false;
    const Json* pre_tokenizer = FindMember(root_, "pre_tokenizer");
    for (const Json* step : Steps(pre_tokenizer, "pretokenizers")) {
      const std::string type = Text(*step, "type");
      if (type == "Split" && rules_.split_expression.empty() && !is_byte_level) {
        if (ReadSplit(*step)) continue;
      } else if (type == "ByteLevel" && !is_byte_level) {
        is_byte_level = true;
        // With use_regex, which is the default, GPT-2's own expression splits once more.
        if (Is(*step, "add_prefix_space", false) && Is(*step, "use_regex", false)) continue;
      }
      RefuseStep("pre_tokenizer", *step);
    }
    if (pre_tokenizer != nullptr && !is_byte_level) Refuse("pre_tokenizer without ByteLevel");
  }

  // "Removed" with invert keeps the matches alone, "Isolated" keeps what is between them too.
  bool ReadSplit(const Json& step) {
    const Json* pattern = FindMember(step, "pattern");
    rules_.split_expression = pattern == nullptr ? "" : Text(*pattern, "Regex");
    const std::string behavior = Text(step, "behavior");
    rules_.drop_unmatched = behavior == "Removed" && Is(step, "invert", true);
    return !rules_.split_expression.empty() && (rules_.drop_unmatched || behavior == "Isolated");
  }

  void RefuseStep(std::string_view component, const Json& step) {
    Refuse(fmt::format("{} {}", component, Show(step)));
  }
  void Refuse(const std::string& what) {
    if (rules_.refusal) return;
    rules_.refusal =
        Error(ErrorCode::kUnsupported, what + " changes token ids, phiq does not do it")
            .In(path_)
            .Hint("give the text as token ids with --ids");
  }

  const Json& root_;
  std::string_view path_;
  bool byte_fallback_ = false;
  EncodingRules rules_;
};

}  // namespace

EncodingRules ReadEncodingRules(const Json& root, std::string_view path) {
  return RulesReader(root, path).Read();
}

EncodingRules SentencePieceRules(bool add_dummy_prefix) {
  const std::string space_mark = "\xE2\x96\x81";
  EncodingRules rules;
  if (add_dummy_prefix) rules.prepend = space_mark;
  rules.replaced = std::string(1, ' ');
  rules.replacement = space_mark;
  return rules;
}

}  // namespace phiq
