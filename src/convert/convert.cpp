// The pass list of a conversion. Reads from top to bottom: locate, describe, plan, lay out, write,
// commit.
#include "phiq/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include "convert/memory.h"
#include "convert/source.h"
#include "convert/stream.h"
#include "formats/gguf/layout.h"
#include "io/output_file.h"
#include "io/parallel.h"
#include "io/temporaries.h"
#include "phiq/text.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStandardOutput = "-";

OutputOptions OutputOptionsOf(const ConvertOptions& options) {
  return {options.force, options.mkdir, options.space_check, options.fsync};
}

// OUT, or model-TYPE.gguf in the working folder, the model's name in lower case.
fs::path OutputPath(const ConvertOptions& options, const CheckpointFolder& folder,
                    std::string_view type) {
  if (!options.output.empty()) return options.output;
  std::string name = folder.model_name();
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return fmt::format("{}-{}.gguf", name, type);
}

// "out.gguf" and "-00001-of-00003" give "out-00001-of-00003.gguf".
fs::path PartPath(const fs::path& output, std::string_view suffix) {
  if (suffix.empty()) return output;
  fs::path part = output;
  part.replace_filename(output.stem().string() + std::string(suffix) + ".gguf");
  return part;
}

// An output must not be one of the files it is made from, not even with --force.
void RefuseInputAsOutput(const fs::path& output, const CheckpointFolder& folder) {
  std::error_code ignored;
  if (!fs::exists(output, ignored)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder.path(), ignored)) {
    if (fs::equivalent(output, entry.path(), ignored)) {
      throw Error(ErrorCode::kUsage, fmt::format("the output is the same file as the input {}",
                                                 Escape(entry.path().string())))
          .In(output.string())
          .Hint("choose another -o");
    }
  }
}

// Everything that is final before the first byte is written.
struct Prepared {
  Source source;
  Plan plan;
  gguf::Layout layout;
  MemoryPlan memory;
  std::vector<fs::path> paths;  // of layout.files
};

// --overflow f32: tensors with a value that F16 cannot hold stay F32. Reads the weights of F16
// lines.
void WidenWhatOverflowsHalf(const Source& source, Plan& plan, unsigned threads) {
  constexpr std::uint64_t kChunkElements = 1ULL << 18;
  std::vector<std::size_t> half_lines;
  for (std::size_t i = 0; i < plan.lines.size(); ++i) {
    if (plan.lines[i].type == GgmlType::kF16) half_lines.push_back(i);
  }
  const std::vector<RowChunk> chunks = CutIntoChunks(plan, half_lines, kChunkElements);
  std::vector<RowReader> readers(threads, RowReader(source.checkpoint, source.model.config));
  std::vector<char> overflows(chunks.size(), 0);
  ParallelChunks(threads, chunks.size(), [&](std::size_t item, unsigned worker) {
    const std::span<const float> x =
        readers[worker].Read(plan.lines[chunks[item].line], chunks[item]);
    overflows[item] = std::any_of(
        x.begin(), x.end(), [](float w) { return std::isfinite(w) && std::abs(w) >= 65520.0F; });
  });
  for (std::size_t item = 0; item < chunks.size(); ++item) {
    PlanLine& line = plan.lines[chunks[item].line];
    if (overflows[item] == 0 || line.type == GgmlType::kF32) continue;
    line.type = GgmlType::kF32;
    line.size_bytes = line.n_elements() * sizeof(float);
    line.reason = "--overflow f32: a weight is beyond F16's range";
  }
}

Prepared Prepare(const ConvertOptions& options, const Hooks& hooks, bool will_write) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  CheckpointFolder folder = LocateCheckpoint(options.model, warn);
  const fs::path output = OutputPath(options, folder, options.plan.type);
  const bool to_file = output != kStandardOutput;
  if (will_write && to_file) {
    RefuseInputAsOutput(output, folder);
    if (!options.split_max_bytes) CheckOutputPath(output, 0, OutputOptionsOf(options));
  }
  if (!to_file && options.split_max_bytes) {
    throw Error(ErrorCode::kUsage, "--split-max-size needs files, not standard output (-o -)");
  }

  Source source = OpenSource(std::move(folder), options.ignore_extra, warn);
  Plan plan = MakePlan(source.model, source.checkpoint, options.plan, warn);
  if (options.overflow == OverflowPolicy::kF32) WidenWhatOverflowsHalf(source, plan, threads);
  // From here on formats and byte counts are final.
  gguf::Metadata extra;
  if (options.nan == NanPolicy::kZero) extra.emplace_back("phiq.nan_policy", std::string("zero"));
  const gguf::Metadata metadata = gguf::BuildMetadata(source.model, plan, extra, warn);
  gguf::Layout layout = gguf::MakeLayout(plan, metadata, options.split_max_bytes);
  // From here on every offset is final.
  std::uint64_t header_bytes = 0;
  std::vector<fs::path> paths;
  for (const gguf::PlacedFile& file : layout.files) {
    header_bytes += file.header.size();
    paths.push_back(PartPath(output, file.name_suffix));
  }
  const MemoryPlan memory = PlanMemory(plan, source.checkpoint, source.folder, header_bytes,
                                       threads, options.memory_limit_bytes);
  return {std::move(source), std::move(plan), std::move(layout), memory, std::move(paths)};
}

OutputPlan Describe(const Prepared& prepared) {
  OutputPlan output;
  output.plan = prepared.plan;
  output.model_name = prepared.source.model.name;
  output.architecture = prepared.source.model.config.architecture;
  for (std::size_t i = 0; i < prepared.paths.size(); ++i) {
    output.files.push_back({prepared.paths[i].string(), prepared.layout.files[i].size_bytes});
    output.output_bytes += prepared.layout.files[i].size_bytes;
  }
  output.peak_memory_bytes = prepared.memory.peak_bytes;
  output.threads = prepared.memory.threads;
  return output;
}

// The tensors of one file, in the order of their offsets, with the zeros that follow each.
void PlaceTensors(const gguf::PlacedFile& placed, const Plan& plan, OutputFile& file,
                  std::vector<StreamTensor>& out) {
  for (std::size_t i = 0; i < placed.tensors.size(); ++i) {
    const gguf::PlacedTensor& tensor = placed.tensors[i];
    const std::uint64_t end = tensor.offset_bytes + plan.lines[tensor.line].size_bytes;
    const std::uint64_t next =
        i + 1 < placed.tensors.size() ? placed.tensors[i + 1].offset_bytes : placed.size_bytes;
    out.push_back({tensor.line, &file, tensor.offset_bytes, next - end});
  }
}

void WarnOfReplacedWeights(const StreamResult& streamed, const WarningFn& warn) {
  if (streamed.n_nan_zeroed > 0) {
    warn({ErrorCode::kNumeric,
          fmt::format("--nan zero: {} NaN weights became 0", streamed.n_nan_zeroed)});
  }
  if (streamed.n_clamped > 0) {
    warn({ErrorCode::kNumeric,
          fmt::format("--overflow clamp: {} weights became +-65504", streamed.n_clamped)});
  }
}

}  // namespace

OutputPlan PlanOutput(const ConvertOptions& options, const Hooks& hooks) {
  return Describe(Prepare(options, hooks, /*will_write=*/false));
}

ConvertReport Convert(const ConvertOptions& options, const Hooks& hooks) {
  const auto start = std::chrono::steady_clock::now();
  const Prepared prepared = Prepare(options, hooks, /*will_write=*/true);
  const Plan& plan = prepared.plan;
  ConvertReport report;
  report.output = Describe(prepared);

  std::vector<OutputFile> files;
  files.reserve(prepared.paths.size());  // StreamTensor points into it
  std::vector<StreamTensor> tensors;
  for (std::size_t i = 0; i < prepared.paths.size(); ++i) {
    const gguf::PlacedFile& placed = prepared.layout.files[i];
    files.emplace_back(prepared.paths[i], placed.size_bytes, OutputOptionsOf(options));
    PlaceTensors(placed, plan, files.back(), tensors);
    files.back().WriteAt(0, placed.header);
  }
  // From here on tensors may be written in any order.
  const StreamOptions stream_options{prepared.memory.threads, prepared.memory.chunk_elements,
                                     options.nan, options.overflow};
  const StreamResult streamed =
      StreamTensors(prepared.source.checkpoint, prepared.source.model.config, plan, tensors,
                    stream_options, hooks);
  WarnOfReplacedWeights(streamed, WarnOrIgnore(hooks.warn));
  if (files.size() == 1) {
    files[0].Commit();
  } else {
    CommitTogether(files, /*root=*/0);  // the first part holds the metadata
  }

  report.source_bytes = streamed.bytes_read;
  report.n_nan_zeroed = streamed.n_nan_zeroed;
  report.n_clamped = streamed.n_clamped;
  report.relative_rmse = streamed.relative_rmse;
  report.elapsed_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  report.peak_memory_bytes = PeakMemoryBytes();
  return report;
}

void UnlinkTemporaries() noexcept { UnlinkTemporariesNow(); }

}  // namespace phiq
