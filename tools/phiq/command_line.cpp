// The tree of commands, and one readable line for everything that can be wrong with a command line.
#include "command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "commands.h"
#include "console.h"
#include "peer_words.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::cli {
namespace {

constexpr const char* kProgramExamples = R"(Examples:
  phiq quantize Phi-3.5-mini-instruct                  int4 GGUF (Q4_K_M) in this folder
  phiq quantize microsoft/phi-4 --type Q6_K -o phi.gguf
  phiq quantize Phi-3.5-mini-instruct --profile mobile -o phi-onnx
  phiq plan Phi-3.5-mini-instruct --profile iot        sizes and memory, nothing written
  phiq verify phi.gguf --against microsoft/phi-4
  phiq compare microsoft/phi-4 phi.gguf                the error of each tensor

Exit codes:
  0  done                          6  well-formed, but unsupported
  1  the answer is "no" (verify,   7  out of memory, threads or file descriptors
     inspect --check)              8  try again: output locked, input changed
  2  wrong command line            9  NaN or Inf in the weights, a scale overflows
  3  bad data in an input         10  (of scripts) part of a batch failed
  4  input not found or readable  70  a bug of phiq
  5  output exists or failed      A signal ends phiq by that signal.

`phiq help COMMAND` tells more about a command, `man phiq` about all of them.)";

// The subcommand being parsed when it got wrong, or the program itself.
const CLI::App& Innermost(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : *chosen.back();
}

std::vector<std::string> NamesIn(const CLI::App& app, bool of_options) {
  std::vector<std::string> names;
  if (of_options) {
    for (const CLI::Option* option : app.get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  } else {
    for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  }
  return names;
}

bool IsOption(std::string_view word) { return word.starts_with('-') && word != "-"; }

// What of the command line nobody wanted: the first option, or all operands.
std::vector<std::string> Extras(const CLI::App& app) {
  std::vector<std::string> extras = app.remaining(true);
  const auto option = std::ranges::find_if(extras, IsOption);
  if (option != extras.end()) return {*option};
  return extras;
}

bool IsOfSomeCommand(const CLI::App& app, const std::string& option) {
  return std::ranges::any_of(app.get_subcommands({}), [&](const CLI::App* command) {
    return command->get_option_no_throw(option) != nullptr;
  });
}

std::string MessageOf(const CLI::App& command, const CLI::ParseError& error) {
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
    for (const CLI::Option* option : command.get_options())
      if (option->count() > 1 && option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw)
        return fmt::format("{}: given more than once", option->get_name());
    const std::string_view text = error.what();
    if (text.ends_with(" was given a disallowed flag override"))
      return fmt::format("--{}: takes no value", text.substr(0, text.find(' ')));
    if (text.ends_with(" missing")) {
      const CLI::Option* option =
          command.get_option_no_throw(std::string(text.substr(0, text.find(':'))));
      if (option != nullptr)
        return fmt::format("{}: needs a value ({})", option->get_name(), option->get_option_text());
    }
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
    for (const CLI::Option* option : command.get_options())
      if (option->get_required() && option->count() == 0)
        return fmt::format("{} is missing", option->get_name());
  }
  return Escape(error.what());
}

Error UsageError(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = Innermost(app);
  const bool at_top = &command == &app;
  const std::string hint =
      at_top ? "`phiq --help` lists the commands"
             : fmt::format("`phiq {} --help` lists the options", command.get_name());
  const auto with = [&](const std::string& suggestion, std::string_view separator) {
    return suggestion.empty() ? hint : fmt::format("{}{}{}", suggestion, separator, hint);
  };
  const std::vector<std::string> extras = Extras(app);
  if (extras.empty()) return Error(ErrorCode::kUsage, MessageOf(command, error)).Hint(hint);
  const std::string& extra = extras.front();
  if (IsOption(extra)) {
    const std::string name = extra.substr(0, extra.find('='));
    // One that the commands have is no mistake in itself: there is no command.
    if (at_top && IsOfSomeCommand(app, name))
      return Error(ErrorCode::kUsage, fmt::format("{} without a command", name)).Hint(hint);
    const std::string peer = PeerOptionHint(command.get_name(), name);
    return Error(ErrorCode::kUsage, fmt::format("unknown option '{}'", Escape(name)))
        .Hint(peer.empty() ? with(DidYouMean(name, NamesIn(command, true)), " ")
                           : with(peer, "; "));
  }
  if (at_top)
    return Error(ErrorCode::kUsage, fmt::format("unknown command '{}'", Escape(extra)))
        .Hint(PeerCommandHint(extra).empty() ? with(DidYouMean(extra, NamesIn(app, false)), " ")
                                             : with(PeerCommandHint(extra), "; "));
  const bool converts = command.get_option_no_throw("--format") != nullptr;
  return Error(ErrorCode::kUsage, fmt::format("unexpected operand '{}'", Escape(extra)))
      .Hint(with(converts ? PeerOperandHint(extras) : "", "; "));
}

// The command line as CLI11 reads it: options that stand before the command behind it, and `help`
// and `version` as the options that they mean. The command is the first word that names one, as no
// option before it can be known to take a value.
std::vector<std::string> Arrange(const CLI::App& app, std::vector<std::string> args) {
  std::vector<std::string> commands = NamesIn(app, false);
  commands.insert(commands.end(), {"help", "version"});
  const auto is_command = [&](const std::string& word) {
    return std::ranges::find(commands, word) != commands.end();
  };
  const auto is_own = [&](const std::string& word) {
    return std::ranges::any_of(app.get_options(),
                               [&](const CLI::Option* option) { return option->check_name(word); });
  };
  const auto command = std::ranges::find_if(args, is_command);
  if (command == args.end() || !IsOption(args.front()) ||
      std::any_of(args.begin(), command, is_own))
    return args;
  std::rotate(args.begin(), command, command + 1);
  return args;
}

// Behind `--` all are operands. CLI11 takes it for one of them: it goes, and what would look like
// an option is named as the file in this folder that it is.
std::vector<std::string> WithoutMark(std::vector<std::string> args) {
  const auto mark = std::ranges::find(args, "--");
  if (mark == args.end()) return args;
  for (auto arg = mark + 1; arg != args.end(); ++arg)
    if (IsOption(*arg)) *arg = "./" + *arg;
  args.erase(mark);
  return args;
}

std::vector<std::string> WithoutWords(const CLI::App& app, std::vector<std::string> args) {
  if (args.front() == "version") return {"--version"};
  if (args.front() != "help") return args;
  const auto command = std::find_if_not(args.begin() + 1, args.end(), IsOption);
  if (command == args.end()) return {"--help"};
  const std::vector<std::string> commands = NamesIn(app, false);
  if (std::ranges::find(commands, *command) == commands.end()) return {*command};
  return {*command, "--help"};
}

// CLI11 leaves two blank lines between groups of options, and none before the usage.
std::string HelpText(const CLI::App& app) {
  std::string text = app.help();
  for (std::size_t i = 0; (i = text.find("\n\n\n", i)) != std::string::npos;) text.erase(i, 1);
  return text.insert(text.find("\nUsage:"), "\n");
}

// An argument as a shell reads it, without a line's end in it.
std::string ShellWord(std::string_view arg) {
  constexpr std::string_view kPlain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-";
  if (!arg.empty() && arg.find_first_not_of(kPlain) == std::string_view::npos)
    return std::string(arg);
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7F; };
  const bool has_control = std::ranges::any_of(arg, is_control);
  std::string word = has_control ? "$'" : "'";
  for (const char c : arg) {
    if (is_control(static_cast<unsigned char>(c))) {
      word += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else if (c == '\'') {
      word += has_control ? "\\'" : "'\\''";
    } else if (c == '\\' && has_control) {
      word += "\\\\";
    } else {
      word += c;
    }
  }
  return word + '\'';
}

std::string ShellLine(std::span<char* const> args) {
  std::vector<std::string> words;
  std::ranges::transform(args, std::back_inserter(words), ShellWord);
  return fmt::format("{}", fmt::join(words, " "));
}

void DescribeProgram(CLI::App& app, Command& chosen, const std::string& line) {
  app.name("phiq");
  app.description("Quantizes Phi checkpoints (safetensors) into files that edge runtimes load.");
  app.footer(kProgramExamples);
  app.get_formatter()->column_width(32);
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  app.set_help_flag("-h,--help", "Print this help and exit");
  app.set_version_flag("-V,--version", "phiq " PHIQ_VERSION, "Print the version and exit");
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  AddQuantize(app, chosen, line);
  AddPlan(app, chosen);
  AddInspect(app, chosen);
  AddVerify(app, chosen);
  AddEval(app, chosen);
  AddCompare(app, chosen);
  AddFormats(app, chosen);
  AddProfiles(app, chosen);
  AddCompletion(app, chosen);
  for (CLI::App* command : app.get_subcommands({})) command->group("Commands");
}

}  // namespace

int RunCommandLine(int argc, char** argv) {
  CLI::App app;
  Command chosen;
  DescribeProgram(app, chosen, ShellLine(std::span(argv, static_cast<std::size_t>(argc))));
  if (argc <= 1) {
    std::fputs(HelpText(app).c_str(), stderr);
    return static_cast<int>(ErrorCode::kUsage);
  }
  try {
    std::vector<std::string> args = WithoutMark(std::vector<std::string>(argv + 1, argv + argc));
    if (!args.empty()) args = WithoutWords(app, Arrange(app, std::move(args)));
    std::ranges::reverse(args);  // CLI11 takes them from the end
    app.parse(args);
  } catch (const CLI::CallForHelp&) {
    Print(stdout, HelpText(app));
    return 0;
  } catch (const CLI::CallForVersion& version) {
    Print(stdout, fmt::format("{}\n", version.what()));
    return 0;
  } catch (const CLI::ParseError& error) {
    throw UsageError(app, error);
  }
  return chosen();
}

bool WantsJson(int argc, char** argv) {
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i)
    if (const std::string_view arg = argv[i]; arg == "--json" || arg.starts_with("--json="))
      return true;
  return false;
}

}  // namespace phiq::cli
