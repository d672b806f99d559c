// Names, orders and places the tensors of a GGUF output.
#include "formats/gguf/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

#include "base/checked.h"
#include "formats/gguf/header.h"
#include "formats/gguf/tensor_names.h"
#include "phiq/error.h"

namespace phiq::gguf {
namespace {

struct OrderedTensor {
  std::size_t line = 0;
  std::string name;
};

// llama-quantize's order; the loader takes any, but a fixed one makes files comparable.
std::vector<OrderedTensor> InFileOrder(const Plan& plan) {
  std::vector<OrderedTensor> tensors;
  for (std::size_t i = 0; i < plan.lines.size(); ++i)
    tensors.push_back({i, TensorName(plan.lines[i])});
  std::sort(tensors.begin(), tensors.end(), [&](const OrderedTensor& a, const OrderedTensor& b) {
    return std::tie(plan.lines[a.line].layer, a.name) < std::tie(plan.lines[b.line].layer, b.name);
  });
  return tensors;
}

std::uint64_t PaddedBytes(const PlanLine& line) {
  return AlignUp(line.size_bytes, kAlignment).value();
}

// Fills parts in order: a tensor that would pass the limit begins a new one.
std::vector<std::vector<OrderedTensor>> Split(const Plan& plan, std::vector<OrderedTensor> tensors,
                                              std::optional<std::uint64_t> max_bytes) {
  std::vector<std::vector<OrderedTensor>> parts(1);
  std::uint64_t part_bytes = 0;
  for (OrderedTensor& tensor : tensors) {
    const std::uint64_t size_bytes = PaddedBytes(plan.lines[tensor.line]);
    if (max_bytes && size_bytes > *max_bytes) {
      throw Error(ErrorCode::kUsage, fmt::format("a part may hold {} bytes but this tensor has {}",
                                                 *max_bytes, size_bytes))
          .Tensor(tensor.name)
          .Hint("use a larger --split-max-size");
    }
    if (max_bytes && part_bytes + size_bytes > *max_bytes) {
      parts.emplace_back();
      part_bytes = 0;
    }
    part_bytes += size_bytes;
    parts.back().push_back(std::move(tensor));
  }
  if (parts.size() > std::numeric_limits<std::uint16_t>::max()) {
    throw Error(ErrorCode::kUsage, fmt::format("{} parts, allowed are 65535", parts.size()))
        .Hint("use a larger --split-max-size");
  }
  return parts;
}

// `suffix`  of the file's name: "", or "-00001-of-00003.gguf".
void PlaceFile(const Plan& plan, std::vector<OrderedTensor> tensors, const Metadata& metadata,
               std::string suffix, OutputLayout& layout) {
  std::vector<TensorInfo> infos;
  std::uint64_t offset_bytes = 0;
  for (OrderedTensor& tensor : tensors) {
    const PlanLine& line = plan.lines[tensor.line];
    infos.push_back(
        {std::move(tensor.name), line.shape, std::get<GgmlType>(line.encoding), offset_bytes});
    offset_bytes += PaddedBytes(line);
  }
  std::vector<std::byte> header = EncodeHeader(metadata, infos);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const PlanLine& line = plan.lines[tensors[i].line];
    layout.arrays.push_back({.line = tensors[i].line,
                             .file = layout.files.size(),
                             .offset_bytes = header.size() + infos[i].offset_bytes,
                             .padding_bytes = PaddedBytes(line) - line.size_bytes});
  }
  const std::uint64_t size_bytes = header.size() + offset_bytes;
  layout.files.push_back({std::move(suffix), std::move(header), size_bytes});
}

}  // namespace

OutputLayout MakeLayout(const Plan& plan, const Metadata& metadata,
                        std::optional<std::uint64_t> split_max_bytes) {
  std::vector<std::vector<OrderedTensor>> parts = Split(plan, InFileOrder(plan), split_max_bytes);
  OutputLayout layout;
  if (parts.size() == 1) {
    PlaceFile(plan, std::move(parts[0]), metadata, "", layout);
    return layout;
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Metadata part_metadata = i == 0 ? metadata : Metadata();
    part_metadata.emplace_back("split.no", static_cast<std::uint16_t>(i));
    part_metadata.emplace_back("split.count", static_cast<std::uint16_t>(parts.size()));
    part_metadata.emplace_back("split.tensors.count", static_cast<std::int32_t>(plan.lines.size()));
    PlaceFile(plan, std::move(parts[i]), part_metadata,
              fmt::format("-{:05}-of-{:05}.gguf", i + 1, parts.size()), layout);
  }
  return layout;
}

}  // namespace phiq::gguf
