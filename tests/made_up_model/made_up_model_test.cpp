// A model with other names than Phi-3's goes the whole way: planned, written, read back, verified
// and compared, by the tables alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "phiq/compare.h"
#include "phiq/convert.h"
#include "phiq/evaluate.h"
#include "phiq/inspect.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq::testing {
namespace {

namespace fs = std::filesystem;

const fs::path kTiny = fs::path(kTestData) / "phi35-tiny";

std::string ReadBytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string MadeUpName(std::string name) {
  const std::map<std::string, std::string> words = {{"model.embed_tokens", "words"},
                                                    {"model.norm", "last_calm"},
                                                    {"lm_head", "say"},
                                                    {"model.layers", "block"},
                                                    {"post_attention_layernorm", "calm_again"},
                                                    {"input_layernorm", "calm"},
                                                    {"self_attn.qkv_proj", "look.all"},
                                                    {"self_attn.o_proj", "look.out"},
                                                    {"mlp.gate_up_proj", "think.in"},
                                                    {"mlp.down_proj", "think.out"}};
  for (const auto& [from, to] : words) {
    if (const std::size_t at = name.find(from); at != std::string::npos)
      name.replace(at, from.size(), to);
  }
  return name;
}

// The tiny checkpoint under the made-up names, in a folder that is called like the original.
class MadeUpModel : public ::testing::Test {
 protected:
  MadeUpModel() : model_(temp_.path() / "phi35-tiny") {
    fs::create_directory(model_);
    for (const auto& entry : fs::directory_iterator(kTiny)) {
      if (entry.is_regular_file()) fs::copy_file(entry.path(), model_ / entry.path().filename());
    }
    nlohmann::ordered_json config = nlohmann::ordered_json::parse(ReadBytes(kTiny / "config.json"));
    config["architectures"] = {"MadeUpForCausalLM"};
    config["model_type"] = "made_up";
    WriteTestFile(model_ / "config.json", config.dump());
    const std::string bytes = ReadBytes(kTiny / "model.safetensors");
    std::size_t n = 0;
    for (int i = 7; i >= 0; --i)
      n = n << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
    const nlohmann::ordered_json stored = nlohmann::ordered_json::parse(bytes.substr(8, n));
    nlohmann::ordered_json header;
    for (const auto& [name, entry] : stored.items()) header[MadeUpName(name)] = entry;
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    std::string size;
    for (int shift = 0; shift < 64; shift += 8)
      size.push_back(static_cast<char>(text.size() >> shift));
    WriteTestFile(model_ / "model.safetensors", size + text + bytes.substr(8 + n));
  }

  fs::path Written(const fs::path& model, const std::string& format, const std::string& type,
                   const std::string& name) const {
    ConvertOptions options;
    options.model = model.string();
    options.output = (temp_.path() / name).string();
    options.targets.emplace_back().format = format;
    options.targets.back().type = type;
    options.fsync = false;
    Convert(options, {});
    return temp_.path() / name;
  }

  // Verified against the made-up checkpoint, and equal to it in a comparison but for rounding.
  void ExpectSound(const fs::path& output) const {
    EXPECT_THAT(Verify({output.string(), model_.string(), {}, 0}, {}).problems,
                ::testing::IsEmpty());
    const Comparison comparison = Compare({model_.string(), output.string(), {}, 0}, {});
    EXPECT_LT(comparison.relative_rmse, 0.2);
    EXPECT_GT(comparison.relative_rmse, 0);
    EXPECT_FALSE(Inspect(output.string(), {}, {}).tensors.empty());
  }

  const TempFolder temp_;
  const fs::path model_;
};

// But for the record of its bytes, which calls weights by their checkpoint's names.
TEST_F(MadeUpModel, IsTheSameGgufFileAsItsTwin) {
  const fs::path made_up = Written(model_, "gguf", "Q4_K_M", "made-up.gguf");
  const fs::path twin = Written(kTiny, "gguf", "Q4_K_M", "twin.gguf");
  Inspection a = Inspect(made_up.string(), {}, {}), b = Inspect(twin.string(), {}, {});
  const auto is_record = [](const auto& entry) { return entry.first == "phiq.record"; };
  EXPECT_EQ(std::erase_if(a.metadata, is_record), 1U);
  EXPECT_EQ(std::erase_if(b.metadata, is_record), 1U);
  EXPECT_EQ(a.metadata, b.metadata);
  const auto data = [](const fs::path& file, std::uint64_t n_bytes) {
    const std::string bytes = ReadBytes(file);
    return bytes.substr(bytes.size() - n_bytes);
  };
  EXPECT_TRUE(data(made_up, a.data_bytes) == data(twin, b.data_bytes));
  ExpectSound(made_up);
}

TEST_F(MadeUpModel, IsTheSameOnnxFolderAsItsTwin) {
  const fs::path made_up = Written(model_, "onnx", "int4", "made-up");
  const fs::path twin = Written(kTiny, "onnx", "int4", "twin");
  std::size_t n_files = 0;
  for (const auto& entry : fs::directory_iterator(twin)) {
    if (entry.path().filename() == "phiq.json") continue;
    EXPECT_TRUE(ReadBytes(entry.path()) == ReadBytes(made_up / entry.path().filename()))
        << entry.path();
    ++n_files;
  }
  EXPECT_GT(n_files, 2U);
  ExpectSound(made_up);
}

TEST_F(MadeUpModel, HasItsNamesInAnOpenVinoFolder) {
  const fs::path made_up = Written(model_, "openvino", "INT8_SYM", "made-up");
  const std::string xml = ReadBytes(made_up / "openvino_model.xml");
  EXPECT_NE(xml.find("\"block.3.think.out.weight\""), std::string::npos);
  EXPECT_EQ(xml.find("down_proj"), std::string::npos);
  ExpectSound(made_up);
}

TEST_F(MadeUpModel, IsRefusedByMlxWhichHasNoSuchModel) {
  try {
    Written(model_, "mlx", "4bit", "made-up");
    ADD_FAILURE() << "was written";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_EQ(std::string(error.what()),
              (fs::path(model_) / "config.json").string() + ": mlx-lm has no MadeUpForCausalLM");
  }
}

TEST_F(MadeUpModel, ComputesWhatItsTwinDoes) {
  WriteTestFile(temp_.path() / "ids", "1 5 9 20 300 41 7 8 90 11 12 13 14 15 16 17");
  const auto perplexity = [&](const fs::path& model) {
    EvalOptions options;
    options.models = {model.string()};
    options.ids = (temp_.path() / "ids").string();
    options.n_ctx = 8;
    return Evaluate(options, {}).models.at(0).perplexity.value;
  };
  EXPECT_EQ(perplexity(model_), perplexity(kTiny));
}

}  // namespace
}  // namespace phiq::testing
