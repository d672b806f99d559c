// What runs that were killed have left in a folder, whatever they wrote.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "io/journal.h"

namespace phiq {

struct Recovered {
  std::vector<std::string> finished;    // names of complete outputs that have them now
  std::vector<std::string> unfinished;  // complete outputs that cannot get theirs: "PATH: why"
  std::vector<std::string> left;        // hidden folders of which nobody knows what is in them
  std::vector<KeptRun> kept;            // to be gone on with, or to be removed: nothing was done
};

// Finishes commits that had begun, and removes what else is stale: temporaries and journals that no
// live process holds. Links and what belongs to other users stay. Locks the folder for the moment;
// does nothing where there is no such folder.
// Throws   kOutput, kTryAgain as LockedFolder does.
Recovered RecoverFolder(const std::filesystem::path& folder);

// Whether the run was writing an output of that name.
bool IsOf(const KeptRun& kept, const std::filesystem::path& output);

// Throws   as RecoverFolder.
void RemoveKept(const std::filesystem::path& folder, const KeptRun& kept);

}  // namespace phiq
