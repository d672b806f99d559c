// A run in stages, of which each is noted when it is done, so that another run can go on from
// there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calibrate/text.h"
#include "convert/output.h"
#include "convert/rows.h"
#include "convert/stream.h"
#include "io/outputs.h"
#include "phiq/convert.h"

namespace phiq {

// What a run that goes on must know of a stage besides the bytes that were written.
struct StageNote {
  StreamResult result;
  std::uint64_t n_tokens = 0;  // that reach the input whose stage it is
  struct Correction {
    std::size_t target = 0;
    InputCorrection input;
  };
  std::vector<Correction> corrections;
  // Of files of the run's own (Stages::AddScratch) what the next stage begins with.
  struct Kept {
    std::string file;
    std::uint64_t offset_bytes = 0, n_bytes = 0;
    Hash128 hash;
  };
  std::vector<Kept> kept;
};

// The note as text, without blanks.
std::string FormatNote(const StageNote& note, std::span<const StreamTarget> targets);
// nullopt: it is not what FormatNote writes for such targets.
std::optional<StageNote> ParseNote(std::string_view text, std::span<const StreamTarget> targets);

class Stages {
 public:
  // `outputs`  of a resumable run; nullptr: nothing is noted.
  // `noted`    by the run that is gone on with.
  // `beside`   an output, for files of the run's own.
  Stages(Outputs* outputs, std::span<const std::string> noted,
         std::span<const StreamTarget> targets, std::filesystem::path beside);

  bool are_kept() const noexcept { return outputs_ != nullptr; }
  const std::filesystem::path& beside() const noexcept { return beside_; }
  // Those that an earlier run has done: the first ones.
  std::span<const StageNote> done() const noexcept { return done_; }
  // The next one is done.
  void Note(const StageNote& note);
  // A file that a run which goes on finds again. Only where they are kept.
  ScratchFile& AddScratch(std::string_view what, std::uint64_t size_bytes);
  // Some bytes of such a file, for a note.
  static StageNote::Kept Keep(std::string_view what, const ScratchFile& file,
                              std::uint64_t offset_bytes, std::uint64_t n_bytes);

 private:
  Outputs* outputs_;
  std::span<const StreamTarget> targets_;
  std::filesystem::path beside_;
  std::vector<StageNote> done_;
};

// Whether what a run has left is what its notes say: files of their sizes, and of each stage that
// is done the bytes that it wrote. All of it is read.
//
// `folder`  in which the outputs stand.
bool IsAsNoted(const std::filesystem::path& folder, const KeptRun& run,
               std::span<const Output> outputs, unsigned threads, const Hooks& hooks);

// Of all that decides what is written: version, source, plans, layouts, policies, text.
std::string FingerprintOf(const ConvertOptions& options, const SourceModel& source,
                          std::span<const Output> outputs, const CalibrationPlan* calibration);

}  // namespace phiq
