// Where the windows of a calibration text lie, and what is wrong with it.
#include "calibrate/text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/json.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "io/input_file.h"
#include "model/render_chat.h"
#include "model/text_file.h"
#include "model/token_encoder.h"
#include "phiq/text.h"

namespace phiq::calibrate {
namespace {

using Ids = std::vector<std::uint32_t>;
using Kind = TextSource::Kind;

constexpr std::uint32_t kLeastContext = 4;  // as for evaluation
constexpr std::uint64_t kMostTokens = 1ULL << 26;
// One window in ten is held back, so many at most.
constexpr std::uint64_t kHeldBackShare = 10;
constexpr std::uint64_t kMostHeldBack = 8;
// A file of at most so many bytes for each wanted token is tokenized as a whole. Tokens are
// mostly 3 to 5 bytes long, so a longer file has several times what is wanted, and each window a
// stretch of its own that is long enough.
constexpr std::uint64_t kPlentyBytes = 32;
// Read at first for a token that is wanted.
constexpr std::uint64_t kUsualBytes = 8;
constexpr std::uint64_t kLeastRead = 4096;
// A stretch begins behind a line's end, where there is one within so many bytes.
constexpr std::uint64_t kLongestLine = 4096;
constexpr std::uint64_t kJsonLineBytes = 16ULL << 20;
// Distinct ids that a text of so many tokens (or a vocabulary of so many) has at least: 2 %.
constexpr std::uint64_t kTokensForEachDistinct = 50;

Error Usage(std::string message) { return Error(ErrorCode::kUsage, std::move(message)); }

void CheckTextOptions(const TextOptions& options, const ModelConfig& config) {
  const std::size_t n_files = options.texts.size() + options.ids.size();
  if (n_files == 0) throw Usage("a calibration needs a text").Hint("--calibrate FILE");
  CheckContext(options.n_ctx, config);
  if (options.n_tokens == 0 || options.n_tokens > kMostTokens) {
    throw Usage(
        fmt::format("--calibration-tokens {}: allowed are 1 to {}", options.n_tokens, kMostTokens));
  }
  if (options.write_own && std::ranges::count(options.texts, kOwnText) > 1)
    throw Usage(fmt::format("--calibrate {} is given twice: it would be the same text", kOwnText));
  if (options.n_tokens <= std::uint64_t{options.n_ctx} * (n_files - 1)) {
    throw Usage(fmt::format("--calibration-tokens {}: {} texts have windows of {} tokens each",
                            options.n_tokens, n_files, options.n_ctx));
  }
}

// The share of source i of n: all shares together are the total.
std::uint64_t ShareOf(std::uint64_t total, std::size_t i, std::size_t n) {
  return total * (i + 1) / n - total * i / n;
}

// --- reading text ---

std::string ReadPiece(const InputFile& file, std::uint64_t begin, std::uint64_t end) {
  std::string piece(static_cast<std::size_t>(end - begin), '\0');
  file.ReadAt(begin, std::as_writable_bytes(std::span(piece)));
  return piece;
}

// What the file's place `begin` in a piece of it must be.
void CheckIsText(const InputFile& file, std::uint64_t begin, std::string_view piece) {
  const std::string path = file.path().string();
  if (const std::size_t at = piece.find('\0'); at != piece.npos) {
    throw Error(ErrorCode::kBadData, "is no text: it holds a NUL")
        .In(path)
        .At(begin + at)
        .Hint("a file of UTF-8 text or of JSON lines is wanted");
  }
  if (const std::optional<std::size_t> bad = FindInvalidUtf8(piece)) {
    throw Error(ErrorCode::kBadData,
                fmt::format("is not UTF-8: byte 0x{:02X}", static_cast<unsigned char>(piece[*bad])))
        .In(path)
        .At(begin + *bad)
        .Hint("iconv converts other encodings");
  }
}

// The end of the last whole character of a piece that may be cut inside one.
std::size_t EndOfWholeCharacters(std::string_view piece) {
  // A character has at most three bytes behind its first.
  for (std::size_t back = 1; back <= std::min<std::size_t>(4, piece.size()); ++back) {
    const auto byte = static_cast<unsigned char>(piece[piece.size() - back]);
    if ((byte & 0xC0U) == 0x80U) continue;
    const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    return length > back ? piece.size() - back : piece.size();
  }
  return piece.size();
}

// Where a stretch begins that would begin with this piece: behind the first line end, else behind
// the first blank, else at the first whole character.
std::size_t BeginOfStretch(std::string_view piece) {
  piece = piece.substr(0, kLongestLine);
  for (const char separator : {'\n', ' '})
    if (const std::size_t found = piece.find(separator); found != piece.npos) return found + 1;
  std::size_t n = 0;
  while (n < piece.size() && (static_cast<unsigned char>(piece[n]) & 0xC0U) == 0x80U) ++n;
  return n;
}

// A piece that ends inside a text, without what may be part of a longer word.
std::string_view WithoutCutWord(std::string_view piece) {
  const std::size_t blank = piece.find_last_of(" \n");
  const bool is_one_word = blank == piece.npos || blank == 0;
  return piece.substr(0, is_one_word ? EndOfWholeCharacters(piece) : blank);
}

// The first `wanted` tokens of a text of `size` bytes, or all of them: no more of it is tokenized
// than that takes. read(n) gives its first n bytes, checked.
template <typename Read>
Ids EncodeBeginning(const TokenEncoder& encoder, std::uint64_t size, std::uint64_t wanted,
                    const Read& read) {
  for (std::uint64_t n_bytes = std::max(kLeastRead, wanted * kUsualBytes);; n_bytes *= 2) {
    Ids ids = encoder.Encode(read(std::min(n_bytes, size)));
    // The last token of a cut piece may be another one in the whole text.
    if (ids.size() > wanted || n_bytes >= size) {
      ids.resize(std::min<std::size_t>(ids.size(), wanted));
      return ids;
    }
  }
}

// Of bytes [begin, end) of a file.
Ids EncodeText(const InputFile& file, const TokenEncoder& encoder, std::uint64_t begin,
               std::uint64_t end, std::uint64_t wanted) {
  std::string piece;
  return EncodeBeginning(encoder, end - begin, wanted, [&](std::uint64_t n) -> std::string_view {
    piece = ReadPiece(file, begin, begin + n);
    if (begin + n < file.size()) piece.resize(WithoutCutWord(piece).size());
    CheckIsText(file, begin, piece);
    return piece;
  });
}

Ids EncodeText(std::string_view text, const TokenEncoder& encoder, std::uint64_t wanted) {
  return EncodeBeginning(encoder, text.size(), wanted, [&](std::uint64_t n) {
    return n == text.size() ? text : WithoutCutWord(text.substr(0, n));
  });
}

// --- JSON lines ---

// What turns a line into text. The chat template is parsed when it is needed.
class LineReader {
 public:
  explicit LineReader(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // `where`   file and place of the line.
  std::string TextOf(std::string_view line, const std::string& where) {
    const Json object = ParseJson(line, where);
    if (const Json* text = object.find("text")) {
      if (text->is_string()) return text->text();
      throw BadLine(where, fmt::format("\"text\" is a {}, wanted is a string", text->type_name()));
    }
    const Json* messages = object.find("messages");
    if (messages == nullptr) {
      std::vector<std::string> keys;
      for (const JsonMember& member : object.members())
        keys.push_back(fmt::format("\"{}\"", Escape(member.key)));
      throw BadLine(where, fmt::format("has neither \"text\" nor \"messages\"{}{}",
                                       keys.empty() ? "" : " but ", fmt::join(keys, ", ")));
    }
    if (!messages->is_array() || messages->empty()) {
      throw BadLine(where, fmt::format("\"messages\" is {}, wanted is a list of messages",
                                       messages->is_array() ? "empty" : messages->type_name()));
    }
    try {
      return Template().Render(*messages, variables_);
    } catch (Error& error) {
      throw error.In(where);
    }
  }

 private:
  static Error BadLine(const std::string& where, std::string message) {
    return Error(ErrorCode::kBadData, std::move(message)).In(where);
  }

  const ChatTemplate& Template() {
    if (!template_) {
      if (tokenizer_.chat_template.empty()) {
        throw Error(ErrorCode::kUnsupported, "the model has no chat template to render messages")
            .Hint("JSON lines with \"text\" instead of \"messages\" need none");
      }
      template_.emplace(tokenizer_.chat_template);
      variables_ = ChatVariables(tokenizer_);
    }
    return *template_;
  }

  const Tokenizer& tokenizer_;
  std::optional<ChatTemplate> template_;
  std::vector<std::pair<std::string, std::string>> variables_;
};

// The line that begins at `begin`, without its end.
std::string ReadLine(const InputFile& file, std::uint64_t begin) {
  for (std::uint64_t n_bytes = kLeastRead;; n_bytes = std::min(2 * n_bytes, kJsonLineBytes + 1)) {
    const std::uint64_t end = std::min(file.size(), begin + n_bytes);
    std::string line = ReadPiece(file, begin, end);
    if (const std::size_t found = line.find('\n'); found != line.npos) {
      line.resize(found);
      return line;
    }
    if (end == file.size()) return line;
    if (n_bytes > kJsonLineBytes) {
      throw Error(ErrorCode::kBadData, fmt::format("a line has more than {} bytes", kJsonLineBytes))
          .In(file.path().string())
          .At(begin);
    }
  }
}

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t\r") == line.npos; }

// The text of a line that begins at `begin`; empty where the line is blank.
std::string TextOfLine(const InputFile& file, std::uint64_t begin, std::string_view line,
                       LineReader& reader) {
  CheckIsText(file, begin, line);
  if (IsBlank(line)) return "";
  return reader.TextOf(line, fmt::format("{}, line at byte {}", file.path().string(), begin));
}

void Append(Ids& ids, const Ids& more) { ids.insert(ids.end(), more.begin(), more.end()); }

// All tokens of all lines.
Ids EncodeLines(const InputFile& file, const TokenEncoder& encoder, LineReader& reader) {
  Ids ids;
  for (std::uint64_t begin = 0; begin < file.size();) {
    const std::string line = ReadLine(file, begin);
    Append(ids, encoder.Encode(TextOfLine(file, begin, line, reader)));
    begin += line.size() + 1;
  }
  return ids;
}

// By its name, or by a first line that is such an object.
bool IsJsonLines(const InputFile& file) {
  const std::string ending = file.path().extension().string();
  if (ending == ".jsonl" || ending == ".ndjson") return true;
  if (ReadPiece(file, 0, 1) != "{") return false;
  constexpr std::uint64_t kLongestProbe = 1ULL << 20;
  const std::string begin = ReadPiece(file, 0, std::min(file.size(), kLongestProbe));
  const std::size_t end = begin.find('\n');
  if (end == begin.npos && file.size() > kLongestProbe) return false;
  try {
    const Json object = ParseJson(std::string_view(begin).substr(0, end), "");
    return object.contains("text") || object.contains("messages");
  } catch (const Error&) {
    return false;  // a text that begins with a brace
  }
}

// --- windows ---

std::string Sha256OfIds(const Ids& ids) {
  Sha256 hash;
  hash.Add(std::as_bytes(std::span(ids)));
  return hash.Hex();
}

std::string Sha256Of(const InputFile& file) {
  constexpr std::uint64_t kPiece = 1ULL << 20;
  Sha256 hash;
  for (std::uint64_t at = 0; at < file.size(); at += kPiece) {
    const std::string piece = ReadPiece(file, at, std::min(file.size(), at + kPiece));
    hash.Add(std::as_bytes(std::span(piece)));
  }
  return hash.Hex();
}

// Up to `n` windows of [n_ctx] ids, spread evenly over all ids.
Ids SpreadWindows(const Ids& ids, std::uint64_t n, std::uint32_t n_ctx) {
  const std::uint64_t available = ids.size() / n_ctx;
  n = std::min(n, available);
  Ids windows;
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(i * available / n * n_ctx);
    windows.insert(windows.end(), begin, begin + n_ctx);
  }
  return windows;
}

// A file while its windows are taken.
class SourceReader {
 public:
  SourceReader(const Tokenizer& tokenizer, const ModelConfig& config, std::uint32_t n_ctx)
      : tokenizer_(tokenizer), vocab_size_(config.vocab_size), n_ctx_(n_ctx), lines_(tokenizer) {}

  // Windows of a file, at most `n`; what it is goes into `source`, whose path is set.
  Ids Read(TextSource& source, bool is_ids, std::uint64_t n) {
    const InputFile file(source.path);
    if (file.size() == 0) throw Error(ErrorCode::kBadData, "the text is empty").In(source.path);
    Ids windows;
    if (is_ids) {
      source.kind = Kind::kIds;
      const Ids ids = ReadIdsFile(source.path);
      CheckIds(ids, source.path);
      windows = SpreadWindows(ids, n, n_ctx_);
    } else {
      source.kind = IsJsonLines(file) ? Kind::kJsonLines : Kind::kText;
      if (file.size() <= n * n_ctx_ * kPlentyBytes) {
        windows = SpreadWindows(ReadWhole(file, source.kind), n, n_ctx_);
      } else {
        windows = source.kind == Kind::kText ? ReadStretches(file, n) : ReadLineStretches(file, n);
      }
    }
    source.sha256 = Sha256Of(file);
    file.CheckUnchanged();
    if (windows.empty()) {
      throw Error(ErrorCode::kBadData, fmt::format("has less than {} tokens, one window", n_ctx_))
          .In(source.path)
          .Hint("a longer text, or a smaller --calibration-ctx");
    }
    return windows;
  }

 private:
  const TokenEncoder& Encoder() {
    if (!encoder_) encoder_.emplace(tokenizer_, vocab_size_);
    return *encoder_;
  }

  Ids ReadWhole(const InputFile& file, Kind kind) {
    if (kind == Kind::kJsonLines) return EncodeLines(file, Encoder(), lines_);
    return EncodeText(file, Encoder(), 0, file.size(),
                      std::numeric_limits<std::uint64_t>::max() / kUsualBytes);
  }

  // A window at the beginning of each of n stretches of a text.
  Ids ReadStretches(const InputFile& file, std::uint64_t n) {
    Ids windows;
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t end = PartOf(file.size(), i + 1, n);
      std::uint64_t begin = PartOf(file.size(), i, n);
      if (i > 0)
        begin += BeginOfStretch(ReadPiece(file, begin, std::min(end, begin + kLongestLine)));
      const Ids ids = EncodeText(file, Encoder(), begin, end, n_ctx_);
      // A stretch of long blanks has less: the share is not filled, and a warning says so.
      if (ids.size() == n_ctx_) Append(windows, ids);
    }
    return windows;
  }

  // The same of JSON lines: a window begins with the first line that begins in its stretch, and
  // goes on with the lines behind it; where one line is all of the stretch, inside that line's
  // text.
  Ids ReadLineStretches(const InputFile& file, std::uint64_t n) {
    std::vector<Ids> windows(n);
    std::vector<std::size_t> open;  // begun and not full
    std::uint64_t next = 0;         // the first that has not begun
    for (std::uint64_t begin = 0; begin < file.size() && (next < n || !open.empty());) {
      const std::string line = ReadLine(file, begin);
      const std::uint64_t end = begin + line.size() + 1;
      std::vector<std::uint64_t> offsets(open.size(), 0);  // of the open windows, in the line
      for (; next < n; ++next) {
        const std::uint64_t place = PartOf(file.size(), next, n);
        if (place > begin && PartOf(file.size(), next + 1, n) > end) break;
        open.push_back(next);
        offsets.push_back(place > begin ? place - begin : 0);
      }
      if (!open.empty()) {
        const std::string text = TextOfLine(file, begin, line, lines_);
        for (std::size_t i = 0; i < open.size(); ++i) {
          std::string_view rest = text;
          if (offsets[i] > 0) {
            rest.remove_prefix(text.size() * offsets[i] / line.size());
            rest.remove_prefix(BeginOfStretch(rest));
          }
          Ids& window = windows[open[i]];
          Append(window, EncodeText(rest, Encoder(), n_ctx_ - window.size()));
        }
        std::erase_if(open, [&](std::size_t i) { return windows[i].size() == n_ctx_; });
      }
      begin = end;
    }
    Ids ids;
    for (const Ids& window : windows)
      if (window.size() == n_ctx_) Append(ids, window);
    return ids;
  }

  // size * i / n; sizes of files leave room for it.
  static std::uint64_t PartOf(std::uint64_t size, std::uint64_t i, std::uint64_t n) {
    return size / n * i + size % n * i / n;
  }

  void CheckIds(const Ids& ids, const std::string& path) const {
    const auto bad = std::ranges::find_if(ids, [&](std::uint32_t id) { return id >= vocab_size_; });
    if (bad == ids.end()) return;
    throw Error(ErrorCode::kBadData,
                fmt::format("token id {} (number {}) but the model has {} tokens", *bad,
                            bad - ids.begin(), vocab_size_))
        .In(path);
  }

  const Tokenizer& tokenizer_;
  std::uint32_t vocab_size_;
  std::uint32_t n_ctx_;
  std::optional<TokenEncoder> encoder_;  // not made for files of ids: their tokenizer may be any
  LineReader lines_;
};

Ids WriteOwn(const TextOptions& options, std::uint64_t n, TextSource& source) {
  source.kind = Kind::kOwn;
  Ids windows = options.write_own(n);
  if (windows.empty()) return Ids(n * options.n_ctx, 0);
  source.sha256 = Sha256OfIds(windows);
  return windows;
}

// Whether window i of n is held back, when n_taken of n_held_back are.
bool IsHeldBack(std::uint64_t i, std::uint64_t n, std::uint64_t n_taken,
                std::uint64_t n_held_back) {
  return n_taken < n_held_back && i == (2 * n_taken + 1) * n / (2 * n_held_back);
}

// Shares the windows of a source out: `n_held_back` of them, spread evenly, are held back. A source
// with fewer windows than wanted holds back one in ten of those, and its only one never.
void Distribute(const Ids& windows, std::uint64_t n_held_back, CalibrationText& text,
                TextSource& source) {
  const std::uint64_t n = windows.size() / text.n_ctx;
  const std::uint64_t most = n < 2 ? 0 : (n + kHeldBackShare - 1) / kHeldBackShare;
  n_held_back = std::min(n_held_back, most);
  source.n_held_back = n_held_back;
  source.n_windows = n - n_held_back;
  std::uint64_t n_taken = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const bool is_held = IsHeldBack(i, n, n_taken, n_held_back);
    if (is_held) ++n_taken;
    Ids& to = is_held ? text.held_back : text.windows;
    const auto begin = windows.begin() + static_cast<std::ptrdiff_t>(i * text.n_ctx);
    to.insert(to.end(), begin, begin + text.n_ctx);
  }
}

// --- warnings ---

void WarnOfFewDistinct(const CalibrationText& text, std::uint32_t vocab_size,
                       const WarningFn& warn) {
  const std::unordered_set<std::uint32_t> distinct(text.windows.begin(), text.windows.end());
  if (!HasFewDistinct(text, vocab_size)) return;
  warn({ErrorCode::kBadData,
        fmt::format(
            "only {} distinct tokens among the {} of the calibration text: it says little of "
            "others (take a text like what the model will see)",
            distinct.size(), text.windows.size())});
}

void WarnOfRepetition(const CalibrationText& text, const WarningFn& warn) {
  std::vector<std::span<const std::uint32_t>> windows;
  for (const Ids* ids : {&text.windows, &text.held_back}) {
    for (std::size_t at = 0; at < ids->size(); at += text.n_ctx)
      windows.push_back(std::span(*ids).subspan(at, text.n_ctx));
  }
  std::ranges::sort(windows, [](const auto& a, const auto& b) {
    return std::ranges::lexicographical_compare(a, b);
  });
  std::uint64_t n_repeated = 0;
  for (std::size_t i = 1; i < windows.size(); ++i)
    n_repeated += std::ranges::equal(windows[i - 1], windows[i]) ? 1 : 0;
  if (n_repeated == 0) return;
  warn({ErrorCode::kBadData,
        fmt::format(
            "{} of the {} windows of the calibration text are repetitions: they count twice, "
            "and what is measured on windows that are held back may be of text that was seen",
            n_repeated, windows.size())});
}

void WarnOfSmallText(const CalibrationText& text, std::uint64_t n_wanted, const WarningFn& warn) {
  for (std::size_t i = 0; i < text.sources.size(); ++i) {
    const TextSource& source = text.sources[i];
    const std::uint64_t share = ShareOf(n_wanted, i, text.sources.size());
    if (source.n_windows >= share) continue;
    warn({ErrorCode::kBadData,
          fmt::format("{}: has text for {} windows of {} tokens, its share is {}",
                      Escape(source.path), source.n_windows, text.n_ctx, share)});
  }
  if (text.windows.size() < kLeastTokensForCorrelations) {
    warn(
        {ErrorCode::kBadData,
         fmt::format("{} tokens to calibrate on: below {} they say nothing of correlations (take a "
                     "longer text)",
                     text.windows.size(), kLeastTokensForCorrelations)});
  }
}

std::string Sha256OfAll(const CalibrationText& text) {
  Sha256 hash;
  hash.Add(std::as_bytes(std::span(&text.n_ctx, 1)));
  for (const Ids* ids : {&text.windows, &text.held_back}) hash.Add(std::as_bytes(std::span(*ids)));
  return hash.Hex();
}

}  // namespace

std::uint64_t HeldBackWindows(std::uint64_t n_tokens, std::uint32_t n_ctx) {
  const std::uint64_t n_windows = (n_tokens + n_ctx - 1) / n_ctx;
  return std::clamp<std::uint64_t>((n_windows + kHeldBackShare - 1) / kHeldBackShare, 1,
                                   kMostHeldBack);
}

void CheckContext(std::uint32_t n_ctx, const ModelConfig& config) {
  if (n_ctx < kLeastContext)
    throw Usage(
        fmt::format("--calibration-ctx {}: a window has at least {} tokens", n_ctx, kLeastContext));
  if (n_ctx > config.max_position_embeddings) {
    throw Usage(fmt::format("--calibration-ctx {}: the model's context has {} tokens", n_ctx,
                            config.max_position_embeddings));
  }
}

bool HasFewDistinct(const CalibrationText& text, std::uint32_t vocab_size) {
  const std::unordered_set<std::uint32_t> distinct(text.windows.begin(), text.windows.end());
  const std::uint64_t n = std::min<std::uint64_t>(text.windows.size(), vocab_size);
  return distinct.size() * kTokensForEachDistinct < n;
}

CalibrationText ReadCalibrationText(const Tokenizer& tokenizer, const ModelConfig& config,
                                    const TextOptions& options, const WarningFn& warn) {
  CheckTextOptions(options, config);
  const std::uint64_t n_windows = (options.n_tokens + options.n_ctx - 1) / options.n_ctx;
  const std::uint64_t n_held_back = HeldBackWindows(options.n_tokens, options.n_ctx);

  CalibrationText text;
  text.n_ctx = options.n_ctx;
  for (const std::string& path : options.texts) text.sources.emplace_back().path = path;
  for (const std::string& path : options.ids) text.sources.emplace_back().path = path;
  SourceReader reader(tokenizer, config, options.n_ctx);
  const std::size_t n_sources = text.sources.size();
  std::vector<Ids> windows(n_sources);
  // What is wrong with a file is told before the model writes for minutes.
  for (const bool writes : {false, true}) {
    for (std::size_t i = 0; i < n_sources; ++i) {
      TextSource& source = text.sources[i];
      const bool is_ids = i >= options.texts.size();
      const bool is_own = !is_ids && options.write_own && source.path == kOwnText;
      if (is_own != writes) continue;
      const std::uint64_t n = ShareOf(n_windows, i, n_sources) + ShareOf(n_held_back, i, n_sources);
      windows[i] = is_own ? WriteOwn(options, n, source) : reader.Read(source, is_ids, n);
    }
  }
  for (std::size_t i = 0; i < n_sources; ++i)
    Distribute(windows[i], ShareOf(n_held_back, i, n_sources), text, text.sources[i]);
  if (text.held_back.empty()) {
    throw Error(ErrorCode::kBadData,
                fmt::format("has less than {} tokens, two windows, of which one is held back",
                            2 * options.n_ctx))
        .In(text.sources.front().path)
        .Hint("a longer text, or a smaller --calibration-ctx");
  }
  const WarningFn say = WarnOrIgnore(warn);
  WarnOfSmallText(text, n_windows, say);
  const auto is_written = [](const TextSource& source) { return !source.sha256.empty(); };
  if (!std::ranges::all_of(text.sources, is_written)) return text;
  text.sha256 = Sha256OfAll(text);
  WarnOfFewDistinct(text, config.vocab_size, say);
  WarnOfRepetition(text, say);
  return text;
}

std::string FormatIds(const CalibrationText& text) {
  const std::uint64_t n = text.n_windows() + text.n_held_back();
  std::string ids;
  std::uint64_t n_taken = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const bool is_held = IsHeldBack(i, n, n_taken, text.n_held_back());
    const std::uint64_t window = is_held ? n_taken : i - n_taken;
    if (is_held) ++n_taken;
    const std::span<const std::uint32_t> from = is_held ? text.held_back : text.windows;
    ids += fmt::format("{}\n", fmt::join(from.subspan(window * text.n_ctx, text.n_ctx), " "));
  }
  return ids;
}

}  // namespace phiq::calibrate
