// Chooses `general.name`.
#include "formats/gguf/model_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

#include "base/ascii.h"
#include "base/utf8.h"
#include "phiq/text.h"

namespace phiq::gguf {
namespace {

constexpr std::size_t kMaxBytes = 255;  // of a file name, which it comes from

std::size_t FindAnyCase(std::string_view text, std::string_view lower_word) {
  const auto found = std::search(text.begin(), text.end(), lower_word.begin(), lower_word.end(),
                                 [](char a, char b) { return LowerAscii(a) == b; });
  return found == text.end() ? std::string_view::npos
                             : static_cast<std::size_t>(found - text.begin());
}

// What llama.cpp does for a Phi-3 name is right when the role tokens swallow white space, and
// possible when the tokens that it looks up exist.
bool WantsPhi3(const Tokenizer& tokenizer) {
  constexpr std::array<std::string_view, 4> kRoleTokens = {"<|user|>", "<|assistant|>",
                                                           "<|system|>", "<|end|>"};
  constexpr std::array<std::string_view, 4> kLookedUp = {"</s>", "<unk>", "<s>", "<|endoftext|>"};
  const auto swallows_space = [&](const AddedToken& token) {
    return token.rstrip &&
           std::find(kRoleTokens.begin(), kRoleTokens.end(), token.content) != kRoleTokens.end();
  };
  const auto exists = [&](std::string_view text) {
    return std::ranges::find(tokenizer.added_tokens, text, &AddedToken::content) !=
               tokenizer.added_tokens.end() ||
           std::ranges::find(tokenizer.pieces, text, &SentencePiece::text) !=
               tokenizer.pieces.end() ||
           std::ranges::find(tokenizer.vocab, text) != tokenizer.vocab.end();
  };
  return tokenizer.kind == TokenizerKind::kSentencePiece &&
         std::any_of(tokenizer.added_tokens.begin(), tokenizer.added_tokens.end(),
                     swallows_space) &&
         std::all_of(kLookedUp.begin(), kLookedUp.end(), exists);
}

// Names come from folders: any bytes, any length.
std::string Cleaned(std::string_view name) {
  std::string out;
  for (std::size_t i = 0; i < name.size();) {
    const std::optional<CodePoint> point = DecodeUtf8(name, i);
    const bool is_clean =
        point && point->value >= 0x20 && !(point->value >= 0x7F && point->value <= 0x9F);
    const std::size_t n_bytes = point ? point->n_bytes : 1;
    const std::string_view piece = is_clean ? name.substr(i, n_bytes) : "_";
    if (out.size() + piece.size() > kMaxBytes) break;
    out += piece;
    i += n_bytes;
  }
  return out.empty() ? "model" : out;
}

// "phi-3-tests-phi4" -> "phi 3-tests-phi4"
std::string WithoutPhi3(std::string name) {
  for (std::size_t at = FindAnyCase(name, "phi-3"); at != name.npos;
       at = FindAnyCase(name, "phi-3"))
    name[at + 3] = ' ';
  for (std::size_t at = FindAnyCase(name, "phi3"); at != name.npos; at = FindAnyCase(name, "phi3"))
    name.insert(at + 3, 1, ' ');
  return name;
}

// "Phi 3.5 mini" -> "Phi-3.5 mini", "my-model" -> "Phi-3-my-model"
std::string WithPhi3(std::string name) {
  for (const std::string_view spelling : {"phi 3", "phi_3", "phi.3"}) {
    const std::size_t at = FindAnyCase(name, spelling);
    if (at == name.npos) continue;
    name[at + 3] = '-';
    return name;
  }
  return fmt::format("Phi-3-{}", name);
}

}  // namespace

bool SaysPhi3(std::string_view name) {
  return FindAnyCase(name, "phi-3") != name.npos || FindAnyCase(name, "phi3") != name.npos;
}

std::string GeneralName(const std::string& model_name, const Tokenizer& tokenizer) {
  std::string name = Cleaned(model_name);
  const bool wants_phi3 = WantsPhi3(tokenizer);
  if (wants_phi3 && !SaysPhi3(name)) name = Cleaned(WithPhi3(std::move(name)));
  if (!wants_phi3 && SaysPhi3(name)) name = Cleaned(WithoutPhi3(std::move(name)));
  return name;
}

}  // namespace phiq::gguf
