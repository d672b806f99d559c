// Uses the installed library down to its third parties: text goes through fmt, a pattern through
// PCRE2, a missing checkpoint through the error type.
#include <phiq/checkpoint.h>
#include <phiq/error.h>
#include <phiq/format.h>
#include <phiq/text.h>

#include <iostream>

int main() {
  if (phiq::FormatBytes(1610612736) != "1.50 GiB") return 1;
  if (phiq::TypeOfPrecision("gguf", phiq::Precision::kInt4) != "Q4_K_M") return 1;
  try {
    phiq::LocateCheckpoint("no/such/checkpoint", {});
  } catch (const phiq::Error& error) {
    std::cout << error.what() << '\n';
    return error.code() == phiq::ErrorCode::kInput ? 0 : 1;
  }
  return 1;
}
