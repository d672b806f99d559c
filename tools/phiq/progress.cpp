// Draws the progress bar. What cannot be written is nobody's loss: errors are ignored here.
#include "progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "table.h"

namespace phiq::cli {
namespace {

bool IsCapableTerminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb";
}

std::size_t TerminalWidth() {
  winsize size = {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void Put(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

ProgressBar::ProgressBar(bool wanted) : shown_(wanted && IsCapableTerminal()) {}

void ProgressBar::Draw(const Progress& progress) {
  if (!shown_ || progress.total == 0) return;
  const double done = static_cast<double>(progress.done) / static_cast<double>(progress.total);
  const double rate =
      progress.elapsed_s > 0 ? static_cast<double>(progress.done) / progress.elapsed_s : 0;
  std::string figures = fmt::format(
      " {:3.0f} %  {}", 100 * done,
      progress.n_layers > 0
          ? fmt::format("layer {} of {}", std::max(progress.layer, 1U), progress.n_layers)
          : FormatRate(rate, progress.unit));
  constexpr double kFirst = 0.02;  // before which what was done says little of the rest
  if (done < kFirst && progress.estimated_s > 0)
    figures += fmt::format("  about {} in all", FormatSeconds(progress.estimated_s));
  else if (done > 0)
    figures += fmt::format("  {} left", FormatSeconds(progress.elapsed_s * (1 / done - 1)));

  constexpr std::size_t kWidestBar = 40;
  const std::size_t room = TerminalWidth() - 1;  // the last column stays free, or the line wraps
  if (figures.size() > room) return;
  const std::size_t bar_room = room - figures.size();
  const std::size_t bar = bar_room > 2 ? std::min(kWidestBar, bar_room - 2) : 0;
  const auto filled = static_cast<std::size_t>(done * static_cast<double>(bar));
  const std::string line =
      fmt::format("[{:<{}}]{}", std::string(std::min(filled, bar), '='), bar, figures);
  Put(fmt::format("\r{:<{}}", line, std::max(line.size(), std::min(width_, room))));
  width_ = line.size();
}

void ProgressBar::Clear() {
  if (width_ == 0) return;
  Put(fmt::format("\r{:{}}\r", "", width_));
  width_ = 0;
}

}  // namespace phiq::cli
