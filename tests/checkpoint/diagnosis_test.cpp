// Folders that hold no checkpoint: what is said of them.
#include "checkpoint/diagnosis.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/scratch.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

struct Case {
  std::vector<std::string> files;
  int code;
  std::string message;  // FOLDER stands for the folder's path
};

std::string Replaced(std::string text, const std::string& folder) {
  for (std::size_t at = 0; (at = text.find("FOLDER", at)) != std::string::npos;)
    text.replace(at, 6, folder);
  return text;
}

TEST(NoCheckpoint, SaysWhatStandsThereAndWhatToDo) {
  const std::string already = "holds no checkpoint, but what is converted already: ";
  const auto converted = [](const std::string& name) {
    return " (as MODEL quantize takes such a file or folder, and what was lost in it stays lost: "
           "name one, such as FOLDER/" +
           name + ")";
  };
  const std::vector<Case> cases = {
      {{},
       4,
       "is an empty folder (a checkpoint is config.json, *.safetensors and tokenizer files in one "
       "folder)"},
      {{"README.md"},
       4,
       "holds no checkpoint: no config.json and no weights (a checkpoint is config.json, "
       "*.safetensors and tokenizer files in one folder)"},
      {{"config.json", "tokenizer.json"},
       4,
       "holds config.json but no weights: no model.safetensors and no model.safetensors.index.json "
       "(incomplete download? fetch the files again)"},
      {{"model.safetensors"},
       4,
       "holds weights but no config.json (config.json and the tokenizer files belong beside them)"},
      {{"config.json", "phi.safetensors", "other.safetensors"},
       4,
       "no model.safetensors and no model.safetensors.index.json, but 'other.safetensors', "
       "'phi.safetensors' (give FOLDER/other.safetensors as MODEL if that is all of the weights)"},
      {{"x-Q4_K_M.gguf"}, 6, already + "a GGUF file 'x-Q4_K_M.gguf'" + converted("x-Q4_K_M.gguf")},
      {{"config.json", "b.gguf", "a.GGUF"},
       6,
       already + "GGUF files 'a.GGUF', 'b.gguf'" + converted("a.GGUF")},
      {{"genai_config.json", "model.onnx", "model.onnx.data"},
       6,
       already + "an ONNX model 'model.onnx'" + converted("model.onnx")},
      {{"config.json", "openvino_model.bin", "openvino_model.xml"},
       6,
       already + "an OpenVINO model 'openvino_model.xml'" + converted("openvino_model.xml")},
      {{"phi.litertlm"},
       6,
       already + "a model for a runtime 'phi.litertlm'" + converted("phi.litertlm")},
      {{"config.json", "zero_to_fp32.py", "global_step100/states.pt"},
       6,
       "holds the state of a DeepSpeed training, not a model (make one of it first: python "
       "zero_to_fp32.py FOLDER OUT --safe_serialization)"},
      {{"config.json", "__0_0.distcp"},
       6,
       "holds a distributed checkpoint of PyTorch, '__0_0.distcp' (save the model with "
       "save_pretrained() first)"},
      {{"config.json", "model.pth"},
       6,
       "holds pickle weights only, 'model.pth', and loading a pickle can run code (convert to "
       "safetensors: save_pretrained(..., safe_serialization=True))"},
      {{"checkpoint-900/config.json", "checkpoint-900/model.safetensors",
        "checkpoint-1000/config.json", "checkpoint-1000/model-00001-of-00002.safetensors",
        "logs/x"},
       4,
       "holds no checkpoint itself, but 'checkpoint-1000', 'checkpoint-900' do (give "
       "FOLDER/checkpoint-1000 instead)"},
      {{"out-onnx/model.onnx", "logs/readme"},
       6,
       already + "models in 'out-onnx'" + converted("out-onnx")},
      {{"m.gguf", "m-onnx/model.onnx", "m-mlx/config.json", "m-mlx/model.safetensors"},
       6,
       already + "a GGUF file 'm.gguf', and models in 'm-mlx', 'm-onnx'" + converted("m.gguf")},
      {{"training_args.bin", "run/config.json", "run/model.safetensors"},
       4,
       "holds no checkpoint itself, but 'run' does (give FOLDER/run instead)"},
      {{"runs/a/checkpoint-5/config.json"},
       4,
       "holds no checkpoint: no config.json and no weights (a checkpoint is config.json, "
       "*.safetensors and tokenizer files in one folder)"},
      {{"runs/checkpoint-5/config.json", "runs/checkpoint-5/model.safetensors"},
       4,
       "holds no checkpoint itself, but 'runs/checkpoint-5' does (give FOLDER/runs/checkpoint-5 "
       "instead)"},
      {{"cpu/int4/model.onnx", "cuda/fp16/model.onnx"},
       6,
       already + "models in 'cpu/int4', 'cuda/fp16'" + converted("cpu/int4")},
      {{"config.json", "pytorch_model_fsdp_0/__0_0.distcp"},
       6,
       "holds the state of an FSDP training, not a model (save the model with save_pretrained() "
       "first)"},
      {{"config.json", "flax_model.msgpack"},
       6,
       "holds weights of another framework only, 'flax_model.msgpack' (convert to safetensors: "
       "save_pretrained(..., safe_serialization=True))"},
      {{"models--microsoft--phi-4/refs/main", "models--gpt2/refs/main"},
       4,
       "is a hub cache, which holds 'gpt2', 'microsoft/phi-4' (give gpt2 instead, with "
       "HF_HUB_CACHE set to this folder if it is not the default one)"},
      {{"lora/adapter_config.json"},
       6,
       "holds no checkpoint, but adapters in 'lora' (convert the model of one with --adapter "
       "FOLDER/lora)"},
  };
  for (const Case& one : cases) {
    Scratch scratch;
    for (const std::string& file : one.files)
      scratch.Write(file, file.find("mlx") == file.npos ? "{}" : R"({"quantization":{}})");
    const std::string folder = scratch.path().native();
    const Failure failure =
        FailureOf([&] { RequireCheckpoint(LocateCheckpoint(folder, [](const Warning&) {})); });
    EXPECT_EQ(failure.text, fmt::format("{}: {}", folder, Replaced(one.message, folder)));
    EXPECT_EQ(failure.code, one.code) << one.message;
  }
}

TEST(NoCheckpoint, NamesTheBaseOfAnAdapter) {
  Scratch scratch;
  const std::string folder = scratch.path().native();
  const auto text = [&] {
    return FailureOf([&] { RequireCheckpoint(LocateCheckpoint(folder, [](const Warning&) {})); })
        .text;
  };
  const std::string hint =
      fmt::format(", not a model (convert that model with --adapter {})", folder);
  scratch.Write("adapter_model.safetensors", "");
  scratch.Write("adapter_config.json", R"({"base_model_name_or_path":"microsoft/phi-4","r":8})");
  EXPECT_EQ(text(), folder + ": is an adapter of microsoft/phi-4" + hint);
  scratch.Write("config.json", "{}");
  EXPECT_EQ(text(), folder + ": is an adapter of microsoft/phi-4" + hint);
  for (const std::string config : {"", "[]", R"({"base_model_name_or_path":null})"}) {
    scratch.Write("adapter_config.json", config);
    EXPECT_EQ(text(), folder + ": is an adapter of a model that it does not name" + hint) << config;
  }
  scratch.Write("adapters.safetensors", "");
  scratch.Write("adapter_config.json", R"({"model":"phi-4","num_layers":16})");
  EXPECT_EQ(text(), folder +
                        ": is an adapter of phi-4, not a model (make a model of the two "
                        "first: mlx_lm.fuse)");
}

TEST(NoCheckpoint, KnowsAFileByItsNameOrItsContent) {
  Scratch scratch;
  for (const auto& [name, content, what] :
       {std::tuple("x.gguf", "", "a GGUF file"), std::tuple("x", "GGUF\3", "a GGUF file"),
        std::tuple("model.onnx", "", "an ONNX model"),
        std::tuple("openvino_model.xml", "", "an OpenVINO model")}) {
    const std::string path = scratch.Write(name, content).native();
    const Failure failure = FailureOf([&] { LocateCheckpoint(path, [](const Warning&) {}); });
    EXPECT_EQ(failure.code, 6);
    EXPECT_EQ(failure.text, fmt::format("{}: is {}, which is converted already (as MODEL quantize "
                                        "takes such a file or folder, and what was lost in it "
                                        "stays lost)",
                                        path, what));
  }
}

TEST(RequireCheckpoint, AcceptsWhatIsOne) {
  for (const std::vector<std::string>& files :
       {std::vector<std::string>{"model.safetensors"},
        {"model.safetensors.index.json"},
        {"model-00001-of-00001.safetensors"},
        {"model.safetensors", "x.gguf", "adapter_config.json"}}) {
    Scratch scratch;
    scratch.Write("config.json", "{}");
    for (const std::string& file : files) scratch.Write(file, "{}");
    RequireCheckpoint(LocateCheckpoint(scratch.path().native(), [](const Warning&) {}));
  }
}

}  // namespace
}  // namespace phiq
