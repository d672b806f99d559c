// Strings go between the operators as three arrays: where each begins, where it ends, and the bytes
// of all. A row of strings (the words of a text) is a range of them, given by two more arrays.
#include "formats/openvino/tokenizer_graph.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/endian.h"

namespace phiq::openvino {
namespace {

constexpr std::string_view kExtension = "extension";
// Added to a length by the runtime when it is told not to cut: the sum must stay an int32.
constexpr std::int32_t kNoLimit = std::numeric_limits<std::int32_t>::max() - 64;
constexpr std::size_t kLeastCache = 20'000;  // words that the BPE operator remembers

const OutputPort kInts = {"I32", {kDynamic}, ""};
const OutputPort kChars = {"U8", {kDynamic}, ""};
const OutputPort kFlags = {"BOOL", {kDynamic}, ""};

std::string Word(bool value) { return value ? "true" : "false"; }

// Strings, in rows unless the first two are not used.
struct Strings {
  Value row_begins, row_ends, begins, ends, chars;
};

class TokenizerBuilder : public GraphBuilder {
 public:
  using GraphBuilder::GraphBuilder;

  std::vector<Value> AddExtension(std::string_view type, std::vector<Value> inputs,
                                  const std::vector<OutputPort>& outputs,
                                  Attributes attributes = {}) {
    const std::string name = fmt::format("{}_{}", type, n_extensions_++);
    const std::size_t layer =
        AddLayer(type, kExtension, name, std::move(inputs), outputs, std::move(attributes));
    std::vector<Value> values;
    for (std::size_t i = 0; i < outputs.size(); ++i) values.push_back({layer, i});
    return values;
  }

  Value Ints(const Dims& dims, std::span<const std::int32_t> values, std::string name = "") {
    return Constant(ElementType::kI32, dims, std::as_bytes(values), std::move(name));
  }
  Value Int(std::int32_t value) { return Ints({}, std::span(&value, 1)); }
  Value Text(std::string_view text) {
    return Constant(ElementType::kU8, {static_cast<std::int64_t>(text.size())},
                    std::as_bytes(std::span(text)));
  }
  Value Flag(bool value) {
    return Constant(ElementType::kBoolean, {}, std::as_bytes(std::span(&value, 1)));
  }

  // A list of strings as three constants. `get(i)` is the i-th of n.
  template <typename Get>
  std::vector<Value> StringList(const std::string& name, std::size_t n, const Get& get) {
    std::vector<std::int32_t> begins, ends;
    std::string chars;
    for (std::size_t i = 0; i < n; ++i) {
      begins.push_back(static_cast<std::int32_t>(chars.size()));
      chars += get(i);
      ends.push_back(static_cast<std::int32_t>(chars.size()));
    }
    const auto count = static_cast<std::int64_t>(n);
    return {Ints({count}, begins, name + "/begins"), Ints({count}, ends, name + "/ends"),
            Constant(ElementType::kU8, {static_cast<std::int64_t>(chars.size())},
                     std::as_bytes(std::span(chars)), name + "/chars")};
  }

  // Every string a row of its own.
  void AddRows(Strings& strings) {
    const Value shape = ShapeOf32("text/ShapeOf", strings.begins);
    const Value axis = Constant(std::int64_t{0});
    const Value n = Gather("text/count", shape, axis, 0);
    const Value zero = Int(0), one = Int(1);
    strings.row_begins = Range("text/row_begins", zero, n, one, ElementType::kI32);
    const Value end = Binary("Add", "text/count_plus_one", n, one);
    strings.row_ends = Range("text/row_ends", one, end, one, ElementType::kI32);
  }

  void Replace(const Replacement& step, Strings& strings, Value* skips = nullptr) {
    std::vector<Value> inputs = {strings.begins, strings.ends, strings.chars};
    std::vector<OutputPort> outputs = {kInts, kInts, kChars};
    if (skips != nullptr) {
      inputs.push_back(*skips);
      outputs.push_back(kFlags);
    }
    inputs.push_back(Text(step.expression));
    inputs.push_back(Text(step.replacement));
    const std::vector<Value> out =
        AddExtension("RegexNormalization", inputs, outputs, {{"global_replace", "true"}});
    strings.begins = out[0];
    strings.ends = out[1];
    strings.chars = out[2];
    if (skips != nullptr) *skips = out[3];
  }

 private:
  Value ShapeOf32(const std::string& name, Value x) {
    return {AddLayer("ShapeOf", "opset3", name, {x}, {{"I32", {1}, ""}}, {{"output_type", "i32"}}),
            0};
  }

  std::size_t n_extensions_ = 0;
};

// White space as Unicode has it; PCRE2's \s takes U+180E for white space, too.
constexpr std::string_view kWhiteSpace = R"((?:[^\S\x{180E}]*))";

// Matches any added token, and the white space beside those that swallow it. Of two tokens of which
// one begins with the other the longer must come first.
std::string AddedTokenExpression(std::vector<AddedToken> tokens) {
  std::ranges::sort(tokens, [](const AddedToken& a, const AddedToken& b) {
    return std::tie(a.content, a.lstrip, a.rstrip) > std::tie(b.content, b.lstrip, b.rstrip);
  });
  std::vector<std::pair<std::pair<bool, bool>, std::vector<std::string>>> groups;
  std::vector<std::size_t> group_of;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::string& content = tokens[i].content;
    std::size_t first = 0;  // group that does not come before a longer token
    for (std::size_t k = i; k > 0 && tokens[k - 1].content.starts_with(content); --k)
      first = std::max(first, group_of[k - 1]);
    const std::pair strips(tokens[i].lstrip, tokens[i].rstrip);
    while (first < groups.size() && groups[first].first != strips) ++first;
    if (first == groups.size()) groups.push_back({strips, {}});
    groups[first].second.push_back(QuoteExpression(content));
    group_of.push_back(first);
  }
  std::vector<std::string> expressions;
  for (const auto& [strips, words] : groups)
    expressions.push_back(fmt::format("{}({}){}", strips.first ? kWhiteSpace : "",
                                      fmt::join(words, "|"), strips.second ? kWhiteSpace : ""));
  return fmt::format("{}", fmt::join(expressions, "|"));
}

// The words of each text as token ids: row begins, row ends, ids.
std::vector<Value> Encode(const TokenizerSteps& steps, const Strings& words,
                          TokenizerBuilder& graph) {
  std::vector<Value> inputs = {words.row_begins, words.row_ends, words.begins, words.ends,
                               words.chars};
  const auto append = [&](const std::vector<Value>& list) {
    inputs.insert(inputs.end(), list.begin(), list.end());
  };
  append(graph.StringList("vocab", steps.vocab.size(),
                          [&](std::size_t i) { return std::string_view(steps.vocab[i]); }));
  append(graph.StringList("merges_left", steps.merges.size(),
                          [&](std::size_t i) { return std::string_view(steps.merges[i].first); }));
  append(graph.StringList("merges_right", steps.merges.size(),
                          [&](std::size_t i) { return std::string_view(steps.merges[i].second); }));
  if (!steps.added_tokens.empty()) {
    append(graph.StringList("added_tokens", steps.added_tokens.size(), [&](std::size_t i) {
      return std::string_view(steps.added_tokens[i].content);
    }));
    std::vector<std::int32_t> ids;
    for (const AddedToken& token : steps.added_tokens)
      ids.push_back(static_cast<std::int32_t>(token.id));
    inputs.push_back(graph.Ints({static_cast<std::int64_t>(ids.size())}, ids, "added_tokens/ids"));
  }
  return graph.AddExtension(
      "BPETokenizer", inputs, {kInts, kInts, kInts},
      {{"unk_token", steps.unk_token},
       {"fuse_unk", Word(steps.fuse_unk)},
       {"suffix_indicator", ""},
       {"end_suffix", ""},
       {"byte_fallback", Word(steps.byte_fallback)},
       {"cache_capacity", fmt::format("{}", std::max(kLeastCache, steps.vocab.size() / 5))}});
}

// Cuts texts that are too long, when the runtime sets the variable that asks for it.
void Truncate(std::uint64_t max_length, std::vector<Value>& ids, TokenizerBuilder& graph) {
  const Value no = graph.Flag(false);
  const Value is_asked_for = graph.ReadValue("truncation", no, ElementType::kBoolean, {});
  const Value limit = graph.Int(static_cast<std::int32_t>(
      std::min<std::uint64_t>(max_length, std::numeric_limits<std::int32_t>::max())));
  const Value no_limit = graph.Int(kNoLimit);
  const Value length = graph.Select("max_length", is_asked_for, limit, no_limit);
  graph.Assign("truncation", is_asked_for);
  const Value side = graph.Text("left");
  const Value mode = graph.Text("longest_first");
  ids = graph.AddExtension("Truncate", {ids[0], ids[1], ids[2], length, side, mode},
                           {kInts, kInts, kInts}, {{"m_num_inputs", "1"}});
}

// Special tokens around each text. Without any the operator still stands there: by it the runtime
// finds where to switch them on and off.
void AddSpecials(const TokenizerSteps& steps, std::vector<Value>& ids, TokenizerBuilder& graph) {
  std::vector<Value> inputs;
  std::int64_t n_segments = 0;
  const auto append = [&](Value begins, Value ends, Value data) {
    inputs.insert(inputs.end(), {begins, ends, data});
    ++n_segments;
  };
  const auto append_special = [&](std::optional<std::uint32_t> id) {
    if (!id) return;
    const auto value = static_cast<std::int32_t>(*id);
    const Value begins = graph.Int(0), ends = graph.Int(1);
    append(begins, ends, graph.Ints({1}, std::span(&value, 1)));
  };
  append_special(steps.first_special);
  append(ids[0], ids[1], ids[2]);
  append_special(steps.last_special);
  const std::vector<std::int32_t> segments(static_cast<std::size_t>(n_segments));
  inputs.push_back(graph.Ints({n_segments}, segments));
  ids = graph.AddExtension("CombineSegments", inputs, {kInts, kInts, kInts, kInts, kInts, kInts});
}

}  // namespace

GraphBuilder BuildTokenizerGraph(const TokenizerSteps& steps, const TokenizerOptions& options) {
  TokenizerBuilder graph("tokenizer");
  const Value text = graph.Parameter("string_input", ElementType::kString, {kDynamic});
  const std::size_t unpack = graph.AddLayer("StringTensorUnpack", "opset15", "text/unpacked",
                                            {text}, {kInts, kInts, kChars});
  Strings strings;
  strings.begins = {unpack, 0};
  strings.ends = {unpack, 1};
  strings.chars = {unpack, 2};
  graph.AddRows(strings);
  if (steps.first_mark) {
    // The first character is group 1, so that groups of added tokens come behind it. A text that
    // begins with an added token has no stretch there.
    std::string expression = R"((?:^)(?=([\s\S])))";
    if (!steps.added_tokens.empty())
      expression += fmt::format("(?!{})", AddedTokenExpression(steps.added_tokens));
    expression += steps.first_mark->expression;
    graph.Replace({std::move(expression), steps.first_mark->replacement}, strings);
  }
  // Added tokens are words already: the flags keep the next steps away from them.
  Value skips;
  const bool has_skips = !steps.added_tokens.empty();
  if (has_skips) {
    const Value expression = graph.Text(AddedTokenExpression(steps.added_tokens));
    const std::vector<Value> out =
        graph.AddExtension("SpecialTokensSplit",
                           {strings.row_begins, strings.row_ends, strings.begins, strings.ends,
                            strings.chars, expression},
                           {kInts, kInts, kInts, kInts, kChars, kFlags});
    strings = {out[0], out[1], out[2], out[3], out[4]};
    skips = out[5];
  }
  for (const Replacement& step : steps.normalizations)
    graph.Replace(step, strings, has_skips ? &skips : nullptr);
  for (const SplitStep& step : steps.splits) {
    std::vector<Value> inputs = {strings.row_begins, strings.row_ends, strings.begins, strings.ends,
                                 strings.chars};
    std::vector<OutputPort> outputs = {kInts, kInts, kInts, kInts, kChars};
    if (has_skips) {
      inputs.push_back(skips);
      outputs.push_back(kFlags);
    }
    inputs.push_back(graph.Text(step.expression));
    const std::vector<Value> out = graph.AddExtension(
        "RegexSplit", inputs, outputs,
        {{"behaviour", step.behaviour}, {"invert", Word(step.invert)}, {"max_splits", "-1"}});
    strings = {out[0], out[1], out[2], out[3], out[4]};
    if (has_skips) skips = out[5];
  }
  std::vector<Value> ids = Encode(steps, strings, graph);
  const std::uint64_t n_specials = (steps.first_special ? 1U : 0U) + (steps.last_special ? 1U : 0U);
  Truncate(options.max_length - std::min(n_specials, options.max_length), ids, graph);
  AddSpecials(steps, ids, graph);

  const Value lengths = graph.Binary("Subtract", "lengths", ids[1], ids[0]);
  const Value axis = graph.Int(0);
  const std::size_t longest = graph.AddLayer("ReduceMax", "opset1", "longest", {lengths, axis},
                                             {{"I32", {}, ""}}, {{"keep_dims", "false"}});
  const Value pad = graph.Int(static_cast<std::int32_t>(options.pad_id));
  const OutputPort table = {"I32", {kDynamic, kDynamic}, ""};
  const OutputPort mask = {"BOOL", {kDynamic, kDynamic}, ""};
  const std::vector<Value> dense =
      graph.AddExtension("RaggedToDense", {ids[0], ids[1], ids[2], {longest, 0}, pad},
                         {table, mask}, {{"pad_right", "false"}, {"m_pad_max_length", "false"}});
  const Value input_ids = graph.Convert("input_ids", dense[0], ElementType::kI64);
  const Value mask_ints = graph.Convert("attention_mask/ints", dense[1], ElementType::kI32);
  const Value attention_mask = graph.Convert("attention_mask", mask_ints, ElementType::kI64);
  graph.Result("input_ids", input_ids);
  graph.Result("attention_mask", attention_mask);
  return graph;
}

GraphBuilder BuildDetokenizerGraph(const TokenizerSteps& steps) {
  TokenizerBuilder graph("detokenizer");
  const Value tokens = graph.Parameter("input_ids", ElementType::kI64, {kDynamic, kDynamic});
  const Value ids = graph.Convert("input_ids/ints", tokens, ElementType::kI32);
  std::vector<Value> inputs = {ids};
  const std::vector<Value> vocab = graph.StringList(
      "vocab", steps.vocab.size(), [&](std::size_t i) { return std::string_view(steps.vocab[i]); });
  inputs.insert(inputs.end(), vocab.begin(), vocab.end());
  std::vector<std::int32_t> special_ids;
  for (const AddedToken& token : steps.added_tokens)
    if (token.special) special_ids.push_back(static_cast<std::int32_t>(token.id));
  inputs.push_back(
      graph.Ints({static_cast<std::int64_t>(special_ids.size())}, special_ids, "special_ids"));
  const std::vector<Value> out = graph.AddExtension(
      "VocabDecoder", inputs, {kInts, kInts, kInts, kInts, kChars}, {{"skip_tokens", ""}});
  Strings strings = {out[0], out[1], out[2], out[3], out[4]};
  bool is_joined = false;
  for (const auto& [step, replacement] : steps.decoding) {
    if (step == DecodingStep::kReplace) {
      graph.Replace(replacement, strings);
    } else if (step == DecodingStep::kByteFallback) {
      const std::vector<Value> bytes = graph.AddExtension(
          "ByteFallback", {strings.begins, strings.ends, strings.chars}, {kInts, kInts, kChars});
      strings.begins = bytes[0];
      strings.ends = bytes[1];
      strings.chars = bytes[2];
    } else if (!std::exchange(is_joined, true)) {
      const std::vector<Value> joined = graph.AddExtension(
          "FuzeRagged", {strings.row_begins, strings.row_ends, strings.begins, strings.ends},
          {kInts, kInts});
      strings.begins = joined[0];
      strings.ends = joined[1];
    }
  }
  const std::vector<Value> valid =
      graph.AddExtension("UTF8Validate", {strings.begins, strings.ends, strings.chars},
                         {kInts, kInts, kChars}, {{"replace_mode", "true"}});
  const std::size_t pack =
      graph.AddLayer("StringTensorPack", "opset15", "string_output", {valid[0], valid[1], valid[2]},
                     {{"STRING", {kDynamic}, ""}});
  graph.Result("string_output", {pack, 0});
  return graph;
}

}  // namespace phiq::openvino
