// Every step of the tokenizer becomes one that an operator can do, or is refused by name.
#include "formats/openvino/tokenizer_steps.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/byte_alphabet.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::openvino {
namespace {

// What ByteLevel splits by when its use_regex is on.
constexpr std::string_view kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class StepReader {
 public:
  explicit StepReader(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  TokenizerSteps Read() && {
    ReadModel();
    ForEach("normalizer", tokenizer_.normalizer, [&](const auto& step) { return Normalize(step); });
    ForEach("pre_tokenizer", tokenizer_.pre_tokenization,
            [&](const auto& step) { return IsByteLevel() ? Split(step) : Mark(step); });
    if (IsByteLevel() && !has_byte_level_) Refuse("pre_tokenizer", "null");
    ForEach("post_processor", tokenizer_.post_processor,
            [&](const auto& step) { return Process(step); });
    FollowFlags();
    ForEach("decoder", tokenizer_.decoder, [&](const auto& step) { return Decode(step); });
    const bool is_joined = std::ranges::any_of(
        steps_.decoding, [](const auto& step) { return step.first == DecodingStep::kJoin; });
    if (!is_joined) steps_.decoding.push_back({DecodingStep::kJoin, {}});
    return std::move(steps_);
  }

 private:
  bool IsByteLevel() const { return tokenizer_.kind == TokenizerKind::kByteLevelBpe; }

  [[noreturn]] void Refuse(std::string_view component, std::string_view shown) const {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{} {} has no counterpart in an OpenVINO tokenizer", component, shown))
        .In(tokenizer_.steps_path);
  }

  // The steps of a component; those that `read` does not know are refused.
  template <typename Read>
  void ForEach(std::string_view component, const std::vector<TokenizerStep>& steps,
               const Read& read) const {
    for (const TokenizerStep& step : steps)
      if (!read(step)) Refuse(component, step.shown);
  }

  std::string BytesOf(const std::string& token) const {
    if (!IsByteLevel()) return token;
    if (std::optional<std::string> bytes = BytesOfLetters(token)) return *std::move(bytes);
    throw Error(ErrorCode::kBadData, fmt::format("token '{}' is not in the byte alphabet of a "
                                                 "byte-level tokenizer",
                                                 Escape(token)))
        .In(tokenizer_.steps_path);
  }

  void ReadModel() {
    if (tokenizer_.vocab.empty()) Refuse("model", "null");
    if (tokenizer_.refusal) throw Error(*tokenizer_.refusal);
    if (tokenizer_.ignore_merges) Refuse("model.ignore_merges", "true");
    steps_.unk_token = tokenizer_.unk_token;
    steps_.fuse_unk = tokenizer_.fuse_unk;
    steps_.byte_fallback = tokenizer_.byte_fallback;
    steps_.added_tokens = tokenizer_.added_tokens;
    std::size_t n_ids = tokenizer_.vocab.size();
    for (const AddedToken& token : steps_.added_tokens) {
      if (token.single_word)
        Refuse("single_word of added token", fmt::format("\"{}\"", Escape(token.content)));
      n_ids = std::max<std::size_t>(n_ids, token.id + std::size_t{1});
    }
    steps_.vocab.resize(n_ids);
    std::vector<bool> is_added(n_ids);
    for (const AddedToken& token : steps_.added_tokens) {
      steps_.vocab[token.id] = token.content;
      is_added[token.id] = true;
    }
    for (std::size_t id = 0; id < tokenizer_.vocab.size(); ++id)
      if (!is_added[id]) steps_.vocab[id] = BytesOf(tokenizer_.vocab[id]);
    for (const Merge& merge : tokenizer_.merges)
      steps_.merges.emplace_back(BytesOf(tokenizer_.vocab[merge.left]),
                                 BytesOf(tokenizer_.vocab[merge.right]));
  }

  bool Normalize(const TokenizerStep& step) {
    if (const auto* const prepend = step.As<TokenizerStep::Prepend>()) {
      steps_.normalizations.push_back({R"((?:^)([\s\S]))", Quoted(prepend->text) + "$1"});
      return true;
    }
    const auto* const replace = step.As<TokenizerStep::Replace>();
    if (replace == nullptr || replace->is_expression) return false;
    steps_.normalizations.push_back(ReplacementOf(*replace));
    return true;
  }

  Replacement ReplacementOf(const TokenizerStep::Replace& step) const {
    return {QuoteExpression(step.pattern), Quoted(step.content)};
  }

  // What replaces a match; "$" and "\" have a meaning of their own there.
  std::string Quoted(const std::string& text) const {
    if (text.find_first_of("$\\") != std::string::npos)
      Refuse("a replacement by", fmt::format("\"{}\"", Escape(text)));
    return text;
  }

  // Spaces become marks, and one more goes before a text that does not begin with one: before each
  // stretch between added tokens, or where the whole text begins, which is known only before they
  // are cut out.
  bool Mark(const TokenizerStep& step) {
    using Prepend = TokenizerStep::Metaspace::Prepend;
    const auto* const metaspace = step.As<TokenizerStep::Metaspace>();
    if (metaspace == nullptr) return false;
    const std::string mark = Quoted(metaspace->replacement);
    const std::string quoted = QuoteExpression(mark);
    steps_.normalizations.push_back({QuoteExpression(" "), mark});
    const std::string before = mark + "$1";
    if (metaspace->prepend == Prepend::kAlways) {
      steps_.normalizations.push_back({fmt::format(R"((?:^)(?!{})([\s\S]))", quoted), before});
    } else if (metaspace->prepend == Prepend::kFirst) {
      steps_.first_mark = Replacement{fmt::format(R"((?!{}| )[\s\S])", quoted), before};
    }
    if (metaspace->split) {  // a word is a mark and what stands before the next
      steps_.splits.push_back({fmt::format(R"({0}(?:(?!{0})[\s\S])*)", quoted), "isolate", false});
    }
    return true;
  }

  bool Split(const TokenizerStep& step) {
    if (const auto* const bytes = step.As<TokenizerStep::ByteLevel>()) {
      has_byte_level_ = true;
      if (bytes->add_prefix_space) return false;
      if (bytes->use_regex)
        steps_.splits.push_back({std::string(kGpt2Expression), "isolate", false});
      return true;
    }
    const auto* const split = step.As<TokenizerStep::Split>();
    if (split == nullptr || !split->is_expression) return false;
    // "Isolated" -> "isolate", "MergedWithNext" -> "mergedwithnext"
    std::string behaviour = LowerAscii(split->behavior);
    if (behaviour.ends_with('d')) behaviour.pop_back();
    if (behaviour.empty()) return false;
    steps_.splits.push_back({split->pattern, behaviour, split->invert});
    return true;
  }

  // One text with at most one special token at either end.
  bool Process(const TokenizerStep& step) {
    if (step.As<TokenizerStep::ByteLevel>() != nullptr) return true;  // about offsets
    const auto* const around = step.As<TokenizerStep::Template>();
    if (around == nullptr) return false;
    bool seen_text = false;
    for (const std::optional<std::string>& token : around->single) {
      if (!token) {
        if (std::exchange(seen_text, true)) return false;
        continue;
      }
      const std::optional<std::uint32_t> id = IdOf(*token);
      std::optional<std::uint32_t>& place = seen_text ? steps_.last_special : steps_.first_special;
      if (!id || place) return false;
      place = id;
    }
    return seen_text;
  }

  // tokenizer_config.json may say otherwise than the template of BOS and EOS.
  void FollowFlags() {
    const auto follow = [](std::optional<bool> wanted, std::optional<std::uint32_t> id,
                           std::optional<std::uint32_t>& place) {
      if (!wanted || !id || (place && place != id)) return;
      place = *wanted ? id : std::nullopt;
    };
    follow(tokenizer_.add_bos, tokenizer_.bos_id, steps_.first_special);
    follow(tokenizer_.add_eos, tokenizer_.eos_id, steps_.last_special);
  }

  std::optional<std::uint32_t> IdOf(const std::string& token) const {
    const auto found = std::ranges::find(steps_.vocab, token);
    if (token.empty() || found == steps_.vocab.end()) return std::nullopt;
    return static_cast<std::uint32_t>(found - steps_.vocab.begin());
  }

  bool Decode(const TokenizerStep& step) {
    if (step.As<TokenizerStep::ByteLevel>() != nullptr ||
        step.As<TokenizerStep::Fuse>() != nullptr) {
      steps_.decoding.push_back({DecodingStep::kJoin, {}});
      return true;
    }
    if (step.As<TokenizerStep::ByteFallback>() != nullptr) {
      steps_.decoding.push_back({DecodingStep::kByteFallback, {}});
      return true;
    }
    if (const auto* const replace = step.As<TokenizerStep::Replace>()) {
      if (replace->is_expression) return false;
      steps_.decoding.push_back({DecodingStep::kReplace, ReplacementOf(*replace)});
      return true;
    }
    const auto* const strip = step.As<TokenizerStep::Strip>();
    if (strip == nullptr || strip->start != 1 || strip->stop != 0) return false;
    steps_.decoding.push_back(
        {DecodingStep::kReplace, {fmt::format("^{}", QuoteExpression(strip->content)), ""}});
    return true;
  }

  const Tokenizer& tokenizer_;
  bool has_byte_level_ = false;
  TokenizerSteps steps_;
};

}  // namespace

std::string QuoteExpression(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    const bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                          (c >= 'A' && c <= 'Z') || c == '_' || c == ' ' ||
                          static_cast<unsigned char>(c) >= 0x80;
    if (!is_plain) quoted.push_back('\\');
    quoted.push_back(c);
  }
  return quoted;
}

TokenizerSteps ReadTokenizerSteps(const Tokenizer& tokenizer) {
  return StepReader(tokenizer).Read();
}

}  // namespace phiq::openvino
