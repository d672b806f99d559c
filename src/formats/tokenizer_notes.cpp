// A runtime's tokenizer that differs in silence gives worse answers and no error, so each known
// difference is a line of the plan.
#include "formats/tokenizer_notes.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "formats/tokenizer_files.h"
#include "model/split_expression.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

using Prepend = TokenizerStep::Metaspace::Prepend;

class Differences {
 public:
  Differences(const Tokenizer& tokenizer, const TokenizerRuntime& runtime)
      : tokenizer_(tokenizer), runtime_(runtime) {}

  std::vector<Decision> Find() && {
    NoteNormalizedTokens();
    NoteStrips();
    if (runtime_.only_known_steps || runtime_.always_prefixes_space) NotePrefix();
    if (runtime_.only_known_steps) {
      NoteNormalizer();
      NotePreTokenizer();
      NoteTemplate();
    }
    if (runtime_.plain_steps) {
      NoteNormalizer();
      NotePrefixSpace();
      NoteSpecialTokens();
    }
    if (runtime_.one_template) NoteTemplates();
    if (tokenizer_.cleans_up_spaces && !runtime_.cleans_up_spaces) {
      Note(fmt::format("{}: clean_up_tokenization_spaces", kTokenizerConfig), "not followed",
           fmt::format(
               "it is true: transformers takes spaces before punctuation away, {} keeps them",
               runtime_.name));
    }
    return std::move(found_);
  }

 private:
  void Note(std::string subject, std::string value, std::string reason) {
    found_.push_back({std::move(subject), std::move(value), std::move(reason)});
  }
  void NoteTokens(std::string value, const std::vector<const AddedToken*>& tokens,
                  std::string_view reason) {
    if (tokens.empty()) return;
    Note(fmt::format("{}: added_tokens", kTokenizerJson), std::move(value),
         fmt::format("'{}'{} {}", Escape(tokens.front()->content),
                     tokens.size() == 1 ? "" : fmt::format(" and {} more:", tokens.size() - 1),
                     reason));
  }

  void NoteNormalizedTokens() {
    if (tokenizer_.normalizer.empty()) return;
    std::vector<const AddedToken*> tokens;
    for (const AddedToken& token : tokenizer_.added_tokens)
      if (token.normalized) tokens.push_back(&token);
    NoteTokens("found before the normalizer", tokens,
               "normalized, so that transformers finds it behind the normalizer only");
  }

  void NoteStrips() {
    if (runtime_.strips == TokenizerRuntime::Strips::kAsFlagged) return;
    if (runtime_.strips == TokenizerRuntime::Strips::kAsTokenizerJson) {
      std::vector<const AddedToken*> tokens;
      for (const AddedToken& token : tokenizer_.overruled_tokens) tokens.push_back(&token);
      NoteTokens(fmt::format("flags of {}", kTokenizerJson), tokens,
                 fmt::format("lstrip, rstrip or others are not what {} says, which transformers "
                             "follows",
                             kTokenizerConfig));
      if (runtime_.plain_steps) NoteFlags();
      return;
    }
    NoteFlags();
  }

  void NoteFlags() {
    std::vector<const AddedToken*> before, kept, taken, words;
    for (const AddedToken& token : tokenizer_.added_tokens) {
      const bool strips = runtime_.strips_behind ? runtime_.strips_behind(token) : token.rstrip;
      if (token.lstrip) before.push_back(&token);
      if (token.rstrip && !strips) kept.push_back(&token);
      if (!token.rstrip && strips) taken.push_back(&token);
    }
    NoteTokens("lstrip not followed", before,
               fmt::format("{} keeps the white space before it", runtime_.name));
    NoteTokens("rstrip not followed", kept,
               fmt::format("{} keeps the white space behind it", runtime_.name));
    NoteTokens("rstrip", taken,
               fmt::format("{} takes the white space behind it away", runtime_.name));
    for (const AddedToken& token : tokenizer_.added_tokens)
      if (token.single_word) words.push_back(&token);
    NoteTokens("single_word not followed", words,
               fmt::format("{} finds it inside words, too", runtime_.name));
  }

  void NoteStep(std::string_view component, const TokenizerStep& step) {
    Note(fmt::format("{}: {}", kTokenizerJson, component), "not followed",
         fmt::format("{} does not do {}", runtime_.name, step.shown));
  }

  void NoteNormalizer() {
    for (const TokenizerStep& step : tokenizer_.normalizer) {
      const auto* const prepend = step.As<TokenizerStep::Prepend>();
      const auto* const replace = step.As<TokenizerStep::Replace>();
      const bool is_mark = tokenizer_.kind == TokenizerKind::kSentencePiece &&
                           ((prepend != nullptr && prepend->text == kSpaceMark) ||
                            (replace != nullptr && !replace->is_expression &&
                             replace->pattern == " " && replace->content == kSpaceMark));
      if (!is_mark) NoteStep("normalizer", step);
    }
  }

  void NotePrefixSpace() {
    for (const TokenizerStep& step : tokenizer_.pre_tokenization) {
      const auto* const bytes = step.As<TokenizerStep::ByteLevel>();
      if (bytes != nullptr && bytes->add_prefix_space) NoteStep("pre_tokenizer", step);
    }
  }

  void NoteSpecialTokens() {
    const bool begins = tokenizer_.add_bos.value_or(false);
    const bool ends = tokenizer_.add_eos.value_or(false);
    if (!begins && !ends) return;
    Note(fmt::format("{}: post_processor", kTokenizerJson), "not followed",
         fmt::format("{} around a text, which {} leaves to the chat template",
                     begins && ends ? "BOS and EOS stand"
                     : begins       ? "BOS stands"
                                    : "EOS stands",
                     runtime_.name));
  }

  void NoteTemplates() {
    const auto& named = tokenizer_.named_chat_templates;
    if (named.empty()) return;
    Note("chat templates",
         fmt::format("without '{}'{}", Escape(named.front().first),
                     named.size() == 1 ? "" : fmt::format(" and {} more", named.size() - 1)),
         fmt::format("{} has the default one alone", runtime_.name));
  }

  // SentencePiece's mark for a space of its own before a stretch of text.
  void NotePrefix() {
    if (tokenizer_.kind != TokenizerKind::kSentencePiece) return;
    const auto note = [&](std::string reason) {
      Note(fmt::format("{}: space before a text", kTokenizerJson), "before each stretch",
           std::move(reason));
    };
    if (!AddsSpacePrefix(tokenizer_)) {
      if (runtime_.always_prefixes_space)
        note(fmt::format("transformers puts none there, {} always", runtime_.name));
      return;
    }
    for (const TokenizerStep& step : tokenizer_.pre_tokenization) {
      const auto* const metaspace = step.As<TokenizerStep::Metaspace>();
      if (metaspace == nullptr || metaspace->prepend == Prepend::kNever) continue;
      note(metaspace->prepend == Prepend::kFirst
               ? fmt::format("prepend_scheme is first: {} puts one behind added tokens, too",
                             runtime_.name)
               : fmt::format("{} puts one before a stretch that begins with a space, too",
                             runtime_.name));
    }
  }

  void NotePreTokenizer() {
    const std::string subject = fmt::format("{}: pre_tokenizer", kTokenizerJson);
    for (const TokenizerStep& step : tokenizer_.pre_tokenization) {
      const auto* const metaspace = step.As<TokenizerStep::Metaspace>();
      const auto* const split = step.As<TokenizerStep::Split>();
      const auto* const bytes = step.As<TokenizerStep::ByteLevel>();
      if (metaspace != nullptr && metaspace->replacement == kSpaceMark) {
        continue;  // NotePrefix
      } else if (split != nullptr && split->is_expression) {
        if (split->pattern != KnownExpression(tokenizer_.pre_tokenizer)) {
          Note(subject, "the known expression",
               fmt::format("{} has an expression of its own for {}", runtime_.name,
                           tokenizer_.pre_tokenizer == PreTokenizer::kO200k ? "o200k" : "cl100k"));
        }
      } else if (bytes == nullptr || bytes->add_prefix_space || bytes->use_regex) {
        NoteStep("pre_tokenizer", step);
      }
    }
    if (tokenizer_.ignore_merges) {
      Note(fmt::format("{}: ignore_merges", kTokenizerJson), "not followed",
           fmt::format("{} makes every word of its merges", runtime_.name));
    }
  }

  // BOS and EOS are flags of their own.
  void NoteTemplate() {
    for (const TokenizerStep& step : tokenizer_.post_processor) {
      const auto* const around = step.As<TokenizerStep::Template>();
      if (around == nullptr) {
        if (step.As<TokenizerStep::ByteLevel>() == nullptr) NoteStep("post_processor", step);
        continue;
      }
      const auto n_specials = std::ranges::count_if(
          around->single, [](const std::optional<std::string>& part) { return part.has_value(); });
      const std::ptrdiff_t n_flags = (tokenizer_.add_bos.value_or(false) ? 1 : 0) +
                                     (tokenizer_.add_eos.value_or(false) ? 1 : 0);
      if (n_specials > n_flags) NoteStep("post_processor", step);
    }
  }

  const Tokenizer& tokenizer_;
  const TokenizerRuntime& runtime_;
  std::vector<Decision> found_;
};

}  // namespace

std::vector<Decision> TokenizerDifferences(const Tokenizer& tokenizer,
                                           const TokenizerRuntime& runtime) {
  return Differences(tokenizer, runtime).Find();
}

bool AddsSpacePrefix(const Tokenizer& tokenizer) noexcept {
  const auto adds = [](const TokenizerStep& step) {
    const auto* const metaspace = step.As<TokenizerStep::Metaspace>();
    return step.As<TokenizerStep::Prepend>() != nullptr ||
           (metaspace != nullptr && metaspace->prepend != Prepend::kNever);
  };
  return std::ranges::any_of(tokenizer.normalizer, adds) ||
         std::ranges::any_of(tokenizer.pre_tokenization, adds);
}

}  // namespace phiq
