// One result of quantization in the arrangements of three formats: which tensor is which array, and
// how its rows stand in it.
#include "formats/torch/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/endian.h"
#include "formats/shards.h"
#include "formats/side_files.h"
#include "formats/torch/config.h"
#include "formats/torch/side_files.h"
#include "model/float_types.h"
#include "safetensors/writer.h"

namespace phiq::torch {
namespace {

constexpr std::uint64_t kMaxShardBytes = 5'000'000'000;  // transformers' "5GB"
constexpr std::size_t kMaxShards = 64;                   // of a model of 300 GB
// As the safetensors library writes: files are as large as those of other tools, to the byte.
constexpr safetensors::Style kStyle = {.alignment_bytes = 8, .by_type = true};

std::string ContentOf(const ConstantTensor& constant) {
  std::string bytes(constant.n_words * sizeof(std::uint32_t), '\0');
  for (std::uint64_t i = 0; i < constant.n_words; ++i)
    StoreLe(constant.word(i), std::as_writable_bytes(std::span(bytes)), i * sizeof(std::uint32_t));
  return bytes;
}

// One code in each place of a word.
std::uint32_t WordOf(std::uint32_t code, int bits) {
  std::uint32_t word = 0;
  for (int shift = 0; shift < 32; shift += bits) word |= code << shift;
  return word;
}

// `with_content`  else the constants are empty, which is enough to know their shards.
std::vector<ShardTensor> TensorsOf(const FolderPlan& plan, bool with_content) {
  std::vector<ShardTensor> tensors;
  for (std::size_t i = 0; i < plan.lines.size(); ++i) {
    const PlanLine& line = plan.lines[i];
    const auto* const codes = std::get_if<GroupEncoding>(&line.encoding);
    if (codes == nullptr) {
      const FloatType type = FloatTypeOf(std::get<GgmlType>(line.encoding)).value();
      tensors.push_back({{line.name, DTypeOf(type), line.shape, ""}, PlacedArray{.line = i}});
      continue;
    }
    const std::uint64_t n_rows = line.n_rows(), n = line.row_elements();
    const auto name_of = [&](const BoxTensor& tensor) {
      return fmt::format("{}.{}", ModuleOf(line.name), tensor.suffix);
    };
    const std::vector<BoxTensor> arrays = ArraysOf(plan.box, *codes, n_rows, n);
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      tensors.push_back({{name_of(arrays[a]), arrays[a].dtype, arrays[a].shape, ""},
                         PlacedArray{.line = i, .array = a, .order = arrays[a].order}});
    }
    for (const ConstantTensor& constant : ConstantsOf(plan.box, *codes, n_rows, n)) {
      tensors.push_back({{name_of(constant.tensor), constant.tensor.dtype, constant.tensor.shape,
                          with_content ? ContentOf(constant) : ""},
                         std::nullopt});
    }
  }
  return tensors;
}

// The index, and the shards in `layout`.
std::string Place(const FolderPlan& plan, bool with_content, OutputLayout& layout) {
  const std::string index = AddShards(TensorsOf(plan, with_content), {{"format", "pt"}},
                                      kMaxShardBytes, kStyle, plan.n_weights(), layout);
  return layout.files.size() == 1 ? "" : index + "\n";
}

}  // namespace

std::vector<BoxTensor> ArraysOf(Box box, const GroupEncoding& codes, std::uint64_t n_rows,
                                std::uint64_t n_columns) {
  const auto per_word = static_cast<std::uint64_t>(32 / BitsOf(codes.code));
  const std::uint64_t n_words = ArrayRowBytes(codes, 0, n_columns) / sizeof(std::uint32_t);
  const std::uint64_t n_groups = GroupCount(codes, n_columns);
  const DType scale = DTypeOfScales(codes.scale);
  constexpr DType kWord = DType::kI32;
  switch (box) {
    case Box::kPacked: {
      std::vector<BoxTensor> arrays = {{"weight_packed", kWord, {n_rows, n_words}, {}},
                                       {"weight_scale", scale, {n_rows, n_groups}, {}}};
      if (HasZeroPoints(codes)) {
        arrays.push_back(
            {"weight_zero_point", kWord, {n_rows / per_word, n_groups}, Order::RowWords(n_groups)});
      }
      return arrays;
    }
    case Box::kIntegers:
      return {{"weight", DType::kI8, {n_rows, n_columns}, {}},
              {"weight_scale", scale, {n_rows, n_groups}, {}}};
    case Box::kGptq:
      return {{"qweight", kWord, {n_words, n_rows}, Order::Columns(n_words)},
              {"scales", scale, {n_groups, n_rows}, Order::Columns(n_groups)}};
    case Box::kAwq: {
      std::vector<BoxTensor> arrays = {
          {"qweight", kWord, {n_columns, n_rows / per_word}, Order::AwqWords(n_columns)},
          {"scales", scale, {n_groups, n_rows}, Order::Columns(n_groups)}};
      if (HasZeroPoints(codes)) {
        arrays.push_back(
            {"qzeros", kWord, {n_groups, n_rows / per_word}, Order::AwqWords(n_groups)});
      }
      return arrays;
    }
  }
  return {};
}

std::vector<ConstantTensor> ConstantsOf(Box box, const GroupEncoding& codes, std::uint64_t n_rows,
                                        std::uint64_t n_columns, bool is_less_one) {
  const int bits = BitsOf(codes.code);
  const std::uint64_t n_groups = GroupCount(codes, n_columns);
  const std::uint64_t n_words = n_rows * static_cast<std::uint64_t>(bits) / 32;  // zero points
  const auto middle = std::uint32_t{1} << (bits - 1);
  const auto zero_points = [&](std::uint32_t code) {
    return ConstantTensor{{"qzeros", DType::kI32, {n_groups, n_words}, {}},
                          n_groups * n_words,
                          [word = WordOf(code, bits)](std::uint64_t) { return word; }};
  };
  switch (box) {
    case Box::kPacked:  // two little-endian numbers of 64 bits
      return {{{"weight_shape", DType::kI64, {2}, {}}, 4, [=](std::uint64_t i) {
                 const std::uint64_t n = i < 2 ? n_rows : n_columns;
                 return static_cast<std::uint32_t>(i % 2 == 0 ? n : n >> 32);
               }}};
    case Box::kIntegers:
      break;
    case Box::kGptq:
      return {{{"g_idx", DType::kI32, {n_columns}, {}},
               n_columns,
               [size = codes.group_size](std::uint64_t i) {  // the group of each column
                 return static_cast<std::uint32_t>(size == 0 ? 0 : i / size);
               }},
              zero_points(is_less_one ? middle - 1 : middle)};
    case Box::kAwq:
      if (!HasZeroPoints(codes)) return {zero_points(middle)};
      break;
  }
  return {};
}

std::vector<std::string> OwnedFiles(const SideFiles&) {
  std::vector<std::string> names = ShardNames(kMaxShards);
  for (const std::string_view name : SideFileNames()) names.emplace_back(name);
  return names;
}

OutputLayout MakeLayout(const SideFiles& side_files, const Model& model, FolderPlan& plan) {
  OutputLayout layout;
  layout.is_folder = true;
  const std::string index = Place(plan, true, layout);
  if (!index.empty())
    layout.files.push_back(WholeFile(std::string(safetensors::kIndexName), BytesOf(index)));
  for (SideFile& file : MakeSideFiles(side_files, model, plan)) {
    if (file.name == kConfigName) layout.root = layout.files.size();
    layout.files.push_back(WholeFile(std::move(file.name), std::move(file.content)));
  }
  return layout;
}

std::string MakeIndex(const FolderPlan& plan) {
  OutputLayout layout;
  return Place(plan, false, layout);
}

}  // namespace phiq::torch
