// An output against its own record: checksums, and codes made again from the source.
#pragma once

#include <span>
#include <string>
#include <vector>

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

// Weights that CheckChecksums and EncodeAgain count.
std::uint64_t WeightsOf(const Record& record);
std::uint64_t WeightsToEncode(const Record& record);

// Every byte of the files, against the checksums. Requires  has_checksums.
// Returns   of the record's lines, whether they are damaged.
std::vector<bool> CheckChecksums(const StoredRecord& stored, std::span<const InputFile> files,
                                 unsigned threads, Meter& meter, Verification& verification);

// Encodes the recorded lines that need no calibration again, and compares bytes. What another
// version wrote is left, with a note.
//
// `damaged`  what is known to be: no second problem.
// `options`  threads, chunks, and what became of odd weights.
void EncodeAgain(const StoredRecord& stored, std::span<const InputFile> files,
                 const std::vector<bool>& damaged, std::string_view format,
                 const SourceModel& source, const StreamOptions& options, Meter& meter,
                 Verification& verification);

}  // namespace phiq
