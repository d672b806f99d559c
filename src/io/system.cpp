// Errors with the operating system's own words.
#include "io/system.h"

#include <system_error>

namespace phiq {

Error SystemError(ErrorCode code, const std::filesystem::path& path, std::string_view what,
                  int number) {
  const bool exhausted = number == EMFILE || number == ENFILE || number == ENOMEM;
  std::string message(what);
  if (!message.empty()) message += ": ";
  message += std::generic_category().message(number);
  return Error(exhausted ? ErrorCode::kResources : code, std::move(message)).In(path.native());
}

}  // namespace phiq
