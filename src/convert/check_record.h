// An output against its own record: checksums, and codes made again from the source.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/calibration.h"
#include "convert/meter.h"
#include "convert/record.h"
#include "convert/rows.h"
#include "convert/stream.h"
#include "phiq/inspect.h"

namespace phiq {

// The files of a record, open.
//
// Adds a problem for each that is missing or of another size; the list is empty then.
std::vector<InputFile> OpenRecorded(const StoredRecord& stored, std::vector<std::string>& problems);

// Weights that CheckChecksums and EncodeAgain count, this one without a calibration.
std::uint64_t WeightsOf(const Record& record);
std::uint64_t WeightsToEncode(const Record& record);

// Of the lines that are wanted, the checksums of their rows as the files have them; 0 of the
// others. Requires  files of the record's sizes.
std::vector<Hash128> HashLines(const Record& record, std::span<const InputFile> files,
                               const std::vector<bool>& wanted, unsigned threads, Meter& meter);

// Every byte of the files, against the checksums. Requires  has_checksums.
// Returns   of the record's lines, whether they are damaged.
std::vector<bool> CheckChecksums(const StoredRecord& stored, std::span<const InputFile> files,
                                 unsigned threads, Meter& meter, Verification& verification);

// What codes are made again from.
struct Remaking {
  const SourceModel& source;
  std::string_view format;
  StreamOptions options;               // threads, chunks, and what became of odd weights
  Calibration* calibration = nullptr;  // as the record names it; nullptr: its inputs are not known
  std::uint64_t memory_limit_bytes = 0;  // with a calibration
  const Hooks& hooks;                    // of a calibrated run, which counts by itself
};

// Encodes the recorded lines again, and compares bytes; without a calibration those that need none.
// What another version wrote is left, with a note.
//
// `damaged`  what is known to be: no second problem.
// Throws   as StreamTensors and, with a calibration, WriteCalibrated and PlanMemory.
void EncodeAgain(const StoredRecord& stored, std::span<const InputFile> files,
                 const std::vector<bool>& damaged, const Remaking& remaking, Meter& meter,
                 Verification& verification);

}  // namespace phiq
