// What runs that were killed have left in a folder, whatever they wrote.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace phiq {

struct Recovered {
  std::vector<std::string> finished;    // names of complete outputs that have them now
  std::vector<std::string> unfinished;  // complete outputs that cannot get theirs: "PATH: why"
  std::vector<std::string> left;        // hidden folders of which nobody knows what is in them
};

// Finishes commits that had begun, and removes what else is stale: temporaries and journals that no
// live process holds. Links and what belongs to other users stay. Locks the folder for the moment;
// does nothing where there is no such folder.
// Throws   kOutput, kTryAgain as LockedFolder does.
Recovered RecoverFolder(const std::filesystem::path& folder);

}  // namespace phiq
