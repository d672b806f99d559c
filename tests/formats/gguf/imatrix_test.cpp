// Importance matrices against those that llama-imatrix wrote (tests/data/PROVENANCE.d/gguf.md), and
// against broken ones made by hand.
#include "formats/gguf/imatrix.h"

#include <gmock/gmock.h>

#include <bit>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

#include "formats/gguf/gguf_bytes.h"
#include "formats/gguf/reader.h"
#include "phiq/checkpoint.h"
#include "testing/test_data.h"

namespace phiq::gguf {
namespace {

using testing::Bytes;
using ::testing::ElementsAre;
using testing::Folder;
using ::testing::IsEmpty;

constexpr WeightId kQkv{TensorRole::kAttentionQkv, 0};
constexpr WeightId kDown{TensorRole::kMlpDown, 3};

void IgnoreWarning(const Warning&) {}

std::string GoldenPath(const std::string& ending) {
  return std::string(kTestData) + "/golden/imatrix/phi35-tiny" + ending;
}

std::string BytesOf(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Model TinyModel() {
  const CheckpointFolder folder =
      LocateCheckpoint(std::string(kTestData) + "/phi35-tiny", IgnoreWarning);
  const Checkpoint checkpoint = OpenCheckpoint(folder, IgnoreWarning);
  return DescribeModel(folder, ReadModelConfig(folder, IgnoreWarning), checkpoint, {},
                       IgnoreWarning);
}

// --- goldens ---

TEST(ImatrixGolden, BothFormsHaveTheMeansThatLlamaQuantizeTakes) {
  const Model model = TinyModel();
  for (const std::string ending : {".gguf", ".dat"}) {
    std::vector<std::string> warnings;
    const Importance read = ReadImatrix(GoldenPath(ending), model, [&](const Warning& warning) {
      warnings.push_back(warning.text);
    });
    EXPECT_THAT(warnings, IsEmpty()) << ending;
    EXPECT_EQ(read.n_entries, 16U);
    EXPECT_EQ(read.squares.size(), 16U);
    EXPECT_EQ(read.n_chunks, 4U);
    EXPECT_THAT(read.datasets, ElementsAre("text.txt"));
    EXPECT_EQ(read.Find({TensorRole::kOutputHead}), nullptr);
    // Worked out from the files' bytes by numpy. (The older form keeps means times chunks, whose
    // quotient has the same bits here: 4 is a power of two.)
    ASSERT_NE(read.Find(kQkv), nullptr);
    EXPECT_EQ(read.Find(kQkv)->size(), 256U);
    EXPECT_EQ(read.Find(kQkv)->front(), 0x1.9ae574p-4F) << ending;
    EXPECT_EQ(read.Find(kQkv)->back(), 0x1.9e49dcp-4F) << ending;
    ASSERT_NE(read.Find(kDown), nullptr);
    EXPECT_EQ(read.Find(kDown)->size(), 768U);
    EXPECT_EQ(read.Find(kDown)->front(), 0x1.7b9cdp-1F) << ending;
    EXPECT_EQ(read.Find(kDown)->back(), 0x1.950606p-1F) << ending;
  }
}

// The sums that the GGUF form keeps.
std::vector<InputSquares> GoldenSums(const Model& model) {
  const File file = File::Open(GoldenPath(".gguf"), IgnoreWarning);
  std::vector<InputSquares> inputs;
  // From the last layer to the first: the order given is not the order written.
  for (auto tensor = model.tensors.rbegin(); tensor != model.tensors.rend(); ++tensor) {
    if (IsNorm(tensor->role) || tensor->layer < 0) continue;
    const char* const name = tensor->role == TensorRole::kAttentionQkv      ? "attn_qkv"
                             : tensor->role == TensorRole::kAttentionOutput ? "attn_output"
                             : tensor->role == TensorRole::kMlpGateUp       ? "ffn_up"
                                                                            : "ffn_down";
    const std::string full =
        "blk." + std::to_string(tensor->layer) + "." + name + ".weight.in_sum2";
    const Tensor* const stored = file.FindTensor(full);
    if (stored == nullptr) throw std::runtime_error("no " + full);
    InputSquares input{{tensor->role, tensor->layer}, {}, 512};
    input.sums.resize(stored->shape.back());
    file.Read(*stored, 0, std::as_writable_bytes(std::span(input.sums)));
    inputs.push_back(std::move(input));
  }
  return inputs;
}

std::string Encoded(ImportanceForm form, std::span<const InputSquares> inputs) {
  const std::vector<std::string> datasets = {"text.txt"};
  const std::vector<std::byte> bytes = EncodeImatrix(form, inputs, datasets, 128);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(ImatrixGolden, TheSameSumsGiveTheBytesOfLlamaImatrix) {
  const std::vector<InputSquares> inputs = GoldenSums(TinyModel());
  ASSERT_EQ(inputs.size(), 16U);
  EXPECT_TRUE(Encoded(ImportanceForm::kTensors, inputs) == BytesOf(GoldenPath(".gguf")));
  EXPECT_TRUE(Encoded(ImportanceForm::kDat, inputs) == BytesOf(GoldenPath(".dat")));
}

TEST(ImatrixWriter, CountsAPartOfAChunkAsOneInTheOlderForm) {
  // llama-imatrix rounds up, so that no reader divides by 0.
  const InputSquares input{kQkv, {6, 3}, 3};
  const std::string dat = Encoded(ImportanceForm::kDat, {&input, 1});
  const std::string wanted = Bytes()
                                 .I32(1)
                                 .I32(21)
                                 .Raw("blk.0.attn_qkv.weight")
                                 .I32(1)
                                 .I32(2)
                                 .Put(2.0F)
                                 .Put(1.0F)
                                 .I32(0)
                                 .I32(8)
                                 .Raw("text.txt")
                                 .text();
  EXPECT_EQ(dat, wanted);
}

TEST(ImatrixWriter, RefusesASumThatIsNotFinite) {
  const InputSquares input{kQkv, {1, std::numeric_limits<float>::infinity()}, 3};
  for (const ImportanceForm form : {ImportanceForm::kTensors, ImportanceForm::kDat}) {
    try {
      Encoded(form, {&input, 1});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNumeric);
      EXPECT_STREQ(error.what(),
                   "tensor 'blk.0.attn_qkv.weight': the squares of input 1 sum up to inf");
    }
  }
}

// --- broken and odd files, for a model of two weights with four columns each ---

Model TwoWeights() {
  Model model;
  model.config.architecture = "Phi3ForCausalLM";
  model.config.vocab_size = 9;
  model.config.hidden_size = model.config.head_dim = 4;
  model.config.n_layers = model.config.n_heads = model.config.n_kv_heads = 1;
  const auto add = [&](TensorRole role, std::int32_t layer, std::vector<std::uint64_t> shape) {
    ModelTensor tensor;
    tensor.role = role;
    tensor.layer = layer;
    tensor.shape = std::move(shape);
    model.tensors.push_back(std::move(tensor));
  };
  add(TensorRole::kTokenEmbedding, -1, {9, 4});
  add(TensorRole::kAttentionNorm, 0, {4});
  add(TensorRole::kAttentionQkv, 0, {12, 4});
  add(TensorRole::kAttentionOutput, 0, {4, 4});
  return model;
}

struct Answer {
  Importance read;
  std::vector<std::string> warnings;
  std::string error;  // without the path; empty: none
};

Answer Read(const std::string& content, ErrorCode wanted = ErrorCode::kBadData) {
  const Folder folder;
  const std::string path = folder.Write("x", content).string();
  const auto without_path = [&](std::string text) {
    return text.starts_with(path + ": ") ? text.substr(path.size() + 2) : text;
  };
  Answer answer;
  try {
    answer.read = ReadImatrix(path, TwoWeights(), [&](const Warning& warning) {
      answer.warnings.push_back(without_path(warning.text));
    });
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), wanted) << error.what();
    answer.error = without_path(error.what());
  }
  return answer;
}

// An entry of the older form.
Bytes& Entry(Bytes& bytes, std::string_view name, std::int32_t n_calls,
             const std::vector<float>& values) {
  bytes.I32(static_cast<std::int32_t>(name.size())).Raw(name).I32(n_calls);
  bytes.I32(static_cast<std::int32_t>(values.size()));
  for (const float value : values) bytes.Put(value);
  return bytes;
}

constexpr std::string_view kFirst = "blk.0.attn_qkv.weight";
constexpr std::string_view kSecond = "blk.0.attn_output.weight";

std::string Dat(std::int32_t n_calls, const std::vector<float>& values) {
  Bytes bytes = Bytes().I32(2);
  Entry(bytes, kFirst, n_calls, values);
  Entry(bytes, kSecond, 1, {1, 1, 1, 1});
  return bytes.text();
}

TEST(ImatrixReader, DividesByTheChunksUnlessThereAreNone) {
  EXPECT_THAT(*Read(Dat(2, {2, 4, 0, 8})).read.Find(kQkv), ElementsAre(1, 2, 0, 4));
  EXPECT_THAT(*Read(Dat(0, {2, 4, 0, 8})).read.Find(kQkv), ElementsAre(2, 4, 0, 8));
}

TEST(ImatrixReader, TakesOlderFilesThatEndBehindTheEntries) {
  const Answer answer = Read(Dat(1, {1, 1, 1, 1}));
  EXPECT_EQ(answer.error, "");
  EXPECT_THAT(answer.warnings, IsEmpty());
  EXPECT_EQ(answer.read.n_chunks, 0U);
  EXPECT_THAT(answer.read.datasets, IsEmpty());
}

TEST(ImatrixReader, WarnsOfWeightsThatAreMissingAndOfOthers) {
  Bytes bytes = Bytes().I32(2);
  Entry(bytes, kSecond, 1, {1, 2, 3, 4});
  Entry(bytes, "blk.7.ffn_down.weight", 1, {1});
  const Answer answer = Read(bytes.text());
  EXPECT_EQ(answer.error, "");
  EXPECT_THAT(answer.warnings,
              ElementsAre("has nothing of 1 of the weights, the first is 'blk.0.attn_qkv.weight': "
                          "quantized as without it",
                          "1 of its 2 entries are of no weight of this model, the first is "
                          "'blk.7.ffn_down.weight'"));
  EXPECT_EQ(answer.read.Find(kQkv), nullptr);
}

TEST(ImatrixReader, LeavesEntriesOfZerosOutWithAWarning) {
  const Answer answer = Read(Dat(1, {0, 0, 0, 0}));
  EXPECT_EQ(answer.error, "");
  EXPECT_THAT(answer.warnings,
              ElementsAre("1 of its entries are all zeros, the first is 'blk.0.attn_qkv.weight': "
                          "quantized as without it"));
  EXPECT_EQ(answer.read.Find(kQkv), nullptr);
  EXPECT_EQ(answer.read.squares.size(), 1U);
}

TEST(ImatrixReader, SaysWhatIsWrongWithAFileOfTheOlderForm) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::string no_matrix = "no importance matrix (llama-imatrix makes them)";
  EXPECT_EQ(Read("").error, no_matrix);
  EXPECT_EQ(Read("abc").error, no_matrix);
  EXPECT_EQ(Read("It was the best of times, it was the worst of times").error, no_matrix);
  EXPECT_EQ(Read(Bytes().I32(0).text()).error, no_matrix);
  EXPECT_EQ(Read(Bytes().I32(-1).text()).error, no_matrix);
  EXPECT_EQ(Read(Bytes().I32(INT32_MAX).Zeros(64).text()).error, no_matrix);
  EXPECT_EQ(Read(Bytes().I32(1).I32(INT32_MAX).Zeros(64).text()).error,
            "the name of entry 0 has 2147483647 bytes but 64 are left at byte 8");
  EXPECT_EQ(Read(Bytes().I32(1).I32(-5).Zeros(64).text()).error,
            "the name of entry 0 has -5 bytes but 64 are left at byte 8");
  EXPECT_EQ(Read(Bytes().I32(1).I32(1).Raw("a").I32(1).I32(INT32_MAX).Zeros(64).text()).error,
            "entry 'a' has 2147483647 values but 64 bytes are left at byte 17");
  EXPECT_EQ(Read(Bytes().I32(1).I32(1).Raw("a").I32(1).I32(0).Zeros(64).text()).error,
            "entry 'a' has 0 values but 64 bytes are left at byte 17");
  EXPECT_EQ(Read(Bytes().I32(1).I32(1).Raw("a").I32(-1).I32(1).Zeros(64).text()).error,
            "entry 'a' counts -1 chunks at byte 17");
  EXPECT_EQ(Read(Dat(1, {1, 2, 3})).error,
            "tensor 'blk.0.attn_qkv.weight': has 3 values, the model's weight has 4 columns (an "
            "importance matrix serves the model that it was made from)");
  EXPECT_EQ(Read(Dat(1, {1, 2, 3, nan}), ErrorCode::kNumeric).error,
            "tensor 'blk.0.attn_qkv.weight': column 3 has the mean square nan, allowed are 0 to "
            "1e+30");
  EXPECT_EQ(Read(Dat(1, {1, -2, 3, 4})).error,
            "tensor 'blk.0.attn_qkv.weight': column 1 has the mean square -2, allowed are 0 to "
            "1e+30");
  Bytes twice = Bytes().I32(2);
  Entry(twice, kFirst, 1, {1, 1, 1, 1});
  Entry(twice, kFirst, 1, {1, 1, 1, 1});
  EXPECT_EQ(Read(twice.text()).error, "tensor 'blk.0.attn_qkv.weight': duplicate entry");
  Bytes other = Bytes().I32(1);
  Entry(other, "blk.0.attn_k.weight", 1, {1, 1, 1, 1});
  EXPECT_EQ(Read(other.text()).error,
            "has none of the model's weights; its first entry is 'blk.0.attn_k.weight' (an "
            "importance matrix serves the model that it was made from)");
  EXPECT_EQ(Read(Dat(1, {1, 1, 1, 1}) + Bytes().I32(4).I32(99).Raw("x").text()).error,
            "the dataset's name has 99 bytes but 1 are left at byte 113");
}

TEST(ImatrixReader, RefusesTheOlderFormCutAnywhereInsideItsEntries) {
  const std::string whole = Dat(1, {1, 1, 1, 1});
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_NE(Read(whole.substr(0, n)).error, "") << n << " bytes";
}

// A GGUF form of one weight; what differs is for the tests to say.
struct TensorForm {
  std::string sums_name = std::string(kFirst) + ".in_sum2";
  std::string counts_name = std::string(kFirst) + ".counts";
  std::string datasets_key = "imatrix.datasets";
  std::int32_t counts_type = 0;
  std::uint64_t n_counts = 1;
  float count = 2;
  std::vector<float> sums = {2, 4, 0, 8};

  std::string text() const {
    Bytes bytes = Bytes::Head(2, 3);
    bytes.Str(datasets_key).I32(9).I32(8).U64(1).Str("t.txt");
    bytes.Str("imatrix.chunk_count").I32(4).U32(5).Str("imatrix.chunk_size").I32(4).U32(64);
    bytes.TensorInfo(sums_name, {sums.size()}, 0, 0);
    bytes.TensorInfo(counts_name, {n_counts}, counts_type, 32).PadTo(32);
    for (const float sum : sums) bytes.Put(sum);
    bytes.PadTo(32);
    for (std::uint64_t i = 0; i < n_counts; ++i) bytes.Put(count);
    return bytes.PadTo(32).text();
  }
};

TEST(ImatrixReader, DividesByTheTokensAndTakesOneWhereThereAreNone) {
  const Answer answer = Read(TensorForm().text());
  EXPECT_EQ(answer.error, "");
  EXPECT_THAT(*answer.read.Find(kQkv), ElementsAre(1, 2, 0, 4));
  EXPECT_EQ(answer.read.n_chunks, 5U);
  EXPECT_THAT(*Read(TensorForm{.count = 0}.text()).read.Find(kQkv), ElementsAre(1, 1, 1, 1));
}

TEST(ImatrixReader, SaysWhatIsWrongWithAFileOfTheTensorForm) {
  EXPECT_EQ(Read(TensorForm{.datasets_key = "imatrix.datasetz"}.text()).error,
            "no importance matrix: there is no key 'imatrix.datasets' (llama-imatrix makes them)");
  EXPECT_EQ(Read(TensorForm{.counts_name = "blk.0.attn_output.weight.counts"}.text()).error,
            "tensor 'blk.0.attn_output.weight': has no '.in_sum2'");
  EXPECT_EQ(Read(TensorForm{.counts_name = "other"}.text()).error,
            "tensor 'blk.0.attn_qkv.weight': has no '.counts'");
  EXPECT_EQ(Read(TensorForm{.counts_type = 1}.text()).error,
            "tensor 'blk.0.attn_qkv.weight.counts': has type F16, allowed is F32");
  EXPECT_EQ(Read(TensorForm{.n_counts = 2}.text()).error,
            "tensor 'blk.0.attn_qkv.weight': has 2 counts, the model's weight is one matrix");
  EXPECT_EQ(Read(TensorForm{.count = -1}.text()).error,
            "tensor 'blk.0.attn_qkv.weight': counts -1 tokens");
  EXPECT_EQ(Read(TensorForm{.sums = {1, 2, 3}}.text()).error,
            "tensor 'blk.0.attn_qkv.weight': has 3 values, the model's weight has 4 columns (an "
            "importance matrix serves the model that it was made from)");
  EXPECT_EQ(Read(TensorForm{.sums = {1, 2, 3, -1}}.text()).error,
            "tensor 'blk.0.attn_qkv.weight': column 3 has the mean square -0.5, allowed are 0 to "
            "1e+30");
}

TEST(ImatrixReader, RefusesTheTensorFormCutAnywhereBeforeItsLastNumber) {
  const std::string whole = TensorForm().text();
  const std::size_t padding = 28;
  for (std::size_t n = 0; n < whole.size() - padding; ++n)
    EXPECT_NE(Read(whole.substr(0, n)).error, "") << n << " bytes";
}

}  // namespace
}  // namespace phiq::gguf
