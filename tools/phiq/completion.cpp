// phiq completion: scripts for the shells, made from the same tree that parses command lines.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "commands.h"
#include "console.h"
#include "phiq/error.h"
#include "phiq/format.h"
#include "phiq/plan.h"
#include "phiq/profile.h"
#include "phiq/text.h"

namespace phiq::cli {
namespace {

constexpr const char* kCompletionExamples = R"X(Examples:
  eval "$(phiq completion bash)"                            in ~/.bashrc
  phiq completion zsh > ~/.zfunc/_phiq                      a folder of $fpath
  phiq completion fish > ~/.config/fish/completions/phiq.fish)X";

using Words = std::vector<std::string>;

struct ValueList {
  std::string option;  // "--type"; of a positional: the command's name
  Words values;
};

// The options and operands that take one of a few words.
std::vector<ValueList> ValueLists() {
  Words types, precisions, profiles, formats;
  std::map<std::string, Words> knobs;
  Words methods = {"reference"};
  methods.insert(methods.end(), CommonMethods().begin(), CommonMethods().end());
  for (const std::string_view format : FormatNames()) {
    formats.emplace_back(format);
    methods.insert(methods.end(), MethodsOf(format).begin(), MethodsOf(format).end());
    for (const Knob& knob : KnobsOf(format)) {
      Words& words = knobs["--" + std::string(knob.name)];
      for (const std::string_view word : knob.words)
        if (std::ranges::find(words, word) == words.end()) words.emplace_back(word);
    }
    for (const TypeName& type : TypeNames(format)) types.emplace_back(type.name);
  }
  for (const Precision precision :
       {Precision::kInt4, Precision::kInt8, Precision::kFp16, Precision::kBf16, Precision::kFp32})
    precisions.emplace_back(PrecisionName(precision));
  for (const Profile& profile : BuiltinProfiles()) profiles.push_back(profile.name);
  std::vector<ValueList> lists = {{"--type", types},
                                  {"--precision", precisions},
                                  {"--profile", profiles},
                                  {"--format", formats},
                                  {"--method", methods},
                                  {"--group-size", {"16", "32", "64", "128", "256", "row"}},
                                  {"--protocol", {"llama.cpp", "all"}},
                                  {"--nan", {"error", "zero"}},
                                  {"--overflow", {"error", "clamp", "f32"}},
                                  {"profiles", profiles},
                                  {"completion", {"bash", "zsh", "fish"}}};
  for (auto& [option, words] : knobs)
    if (!words.empty()) lists.push_back({option, std::move(words)});
  return lists;
}

Words CompletionsOf(std::string_view option) {
  for (ValueList& list : ValueLists())
    if (list.option == option) return std::move(list.values);
  return {};
}

// A line for each format: of `line` with its name and its types.
std::string TypesByFormat(std::string_view line) {
  std::string text;
  for (const std::string_view format : FormatNames()) {
    Words types;
    for (const TypeName& type : TypeNames(format)) types.emplace_back(type.name);
    text += fmt::format(fmt::runtime(line), format, fmt::join(types, " "));
  }
  return text;
}

Words OptionsOf(const CLI::App& command) {
  Words names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

Words CommandNames(const CLI::App& app) {
  Words names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

bool IsRepeatable(const CLI::Option& option) {
  return option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
}

// A description on one line, inside single quotes.
std::string Quoted(std::string_view description) {
  std::string text;
  for (const char c : description) {
    if (c == '\'') text += "'\\'";
    text += c == '\n' ? ' ' : c;
  }
  return text;
}

std::string BashScript(const CLI::App& app) {
  std::string values = TypesByFormat("    --type/{}) words='{}' ;;\n"), options;
  for (const ValueList& list : ValueLists())
    if (list.option.starts_with('-'))
      values += fmt::format("    {}/*) words='{}' ;;\n", list.option, fmt::join(list.values, " "));
  for (const CLI::App* command : app.get_subcommands({})) {
    const Words operands = CompletionsOf(command->get_name());
    options += fmt::format("      {}) options='{}' operands='{}' ;;\n", command->get_name(),
                           fmt::join(OptionsOf(*command), " "), fmt::join(operands, " "));
  }
  return fmt::format(R"(# bash completion for phiq
_phiq() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  local words= options= operands= format= i
  # bash takes --type=Q4 apart at the '='
  if [[ $word == '=' ]]; then word=; elif [[ $previous == '=' ]]; then previous=${{COMP_WORDS[COMP_CWORD-2]}}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ ${{COMP_WORDS[i]}} == --format ]] || continue
    format=${{COMP_WORDS[i+1]}}
    if [[ $format == '=' ]]; then format=${{COMP_WORDS[i+2]:-}}; fi
  done
  case $previous/$format in
{}  esac
  if [[ $previous == --format && $word == *,* ]]; then  # the second of several
    local name several=
    for name in $words; do several+=" ${{word%,*}},$name"; done
    words=$several
  fi
  if [[ -z $words ]]; then
    case ${{COMP_WORDS[1]}} in
{}    esac
    if (( COMP_CWORD == 1 )); then words='{} {}'
    elif [[ $word == -* ]]; then words=$options
    else words=$operands; fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _phiq phiq
)",
                     values, options, fmt::join(CommandNames(app), " "),
                     fmt::join(OptionsOf(app), " "));
}

// An _arguments specification: '--type[what it is]:NAME:(Q4_K_M Q8_0)'.
std::string ZshOption(const CLI::Option& option, const std::string& name) {
  std::string description = Quoted(option.get_description());
  for (std::size_t i = 0; (i = description.find_first_of("[]", i)) != std::string::npos; i += 2)
    description.insert(i, 1, '\\');
  std::string text = fmt::format("--{}[{}]", name, description);
  if (!TakesValue(option)) return text;
  if (name == "type") return text + ":value:_phiq_types";
  const Words values = CompletionsOf("--" + name);
  if (name == "format")
    return text + fmt::format(":value:_values -s , format {}", fmt::join(values, " "));
  return text +
         (values.empty() ? ":value:_files" : fmt::format(":value:({})", fmt::join(values, " ")));
}

std::string ZshScript(const CLI::App& app) {
  std::string commands, cases;
  for (const CLI::App* command : app.get_subcommands({})) {
    commands +=
        fmt::format("    '{}:{}'\n", command->get_name(), Quoted(command->get_description()));
    cases += fmt::format("    {}) _arguments", command->get_name());
    for (const CLI::Option* option : command->get_options())
      for (const std::string& name : option->get_lnames())
        cases += fmt::format(" \\\n      '{}{}'", IsRepeatable(*option) ? "*" : "",
                             ZshOption(*option, name));
    const Words operands = CompletionsOf(command->get_name());
    cases += operands.empty()
                 ? " \\\n      '*:file:_files' ;;\n"
                 : fmt::format(" \\\n      '*:name:({})' ;;\n", fmt::join(operands, " "));
  }
  return fmt::format(R"(#compdef phiq
_phiq_types() {{  # of the format that is given
  local -a types
  case $opt_args[--format] in
{}    *) types=({}) ;;
  esac
  compadd -a types
}}
_phiq() {{
  local -a commands
  commands=(
{})
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{}  esac
}}
if [[ $funcstack[1] == _phiq ]]; then _phiq "$@"; else compdef _phiq phiq; fi
)",
                     TypesByFormat("    {}) types=({}) ;;\n"),
                     fmt::join(CompletionsOf("--type"), " "), commands, cases);
}

std::string FishScript(const CLI::App& app) {
  std::string text = fmt::format(R"(# fish completion for phiq
function __phiq_types  # of the format that is given
  set -l format
  set -l previous
  for word in (commandline -opc)
    test "$previous" = --format; and set format $word
    string match -q -- '--format=*' $word; and set format (string replace -- --format= '' $word)
    set previous $word
  end
  switch "$format"
{}    case '*'; printf '%s\n' {}
  end
end
function __phiq_formats  # after a comma the next of several
  set -l several (string replace -- --format= '' (commandline -ct) | string match -r '.*,')
  for name in {}; echo $several$name; end
end
)",
                                 TypesByFormat("    case {}; printf '%s\\n' {}\n"),
                                 fmt::join(CompletionsOf("--type"), " "),
                                 fmt::join(CompletionsOf("--format"), " "));
  for (const CLI::App* command : app.get_subcommands({})) {
    const std::string& name = command->get_name();
    text += fmt::format("complete -c phiq -n __fish_use_subcommand -f -a {} -d '{}'\n", name,
                        Quoted(command->get_description()));
    const std::string condition =
        fmt::format("complete -c phiq -n '__fish_seen_subcommand_from {}'", name);
    const Words operands = CompletionsOf(name);
    if (!operands.empty())
      text += fmt::format("{} -f -a '{}'\n", condition, fmt::join(operands, " "));
    for (const CLI::Option* option : command->get_options())
      for (const std::string& long_name : option->get_lnames()) {
        const Words values = CompletionsOf("--" + long_name);
        const std::string argument = !TakesValue(*option)    ? ""
                                     : long_name == "type"   ? " -x -a '(__phiq_types)'"
                                     : long_name == "format" ? " -x -a '(__phiq_formats)'"
                                     : values.empty()
                                         ? " -r"
                                         : fmt::format(" -x -a '{}'", fmt::join(values, " "));
        text += fmt::format("{} -l {}{} -d '{}'\n", condition, long_name, argument,
                            Quoted(option->get_description()));
      }
  }
  return text;
}

int PrintScript(const CLI::App& app, const std::string& shell) {
  constexpr std::array<std::pair<std::string_view, std::string (*)(const CLI::App&)>, 3> kScripts =
      {{{"bash", BashScript}, {"zsh", ZshScript}, {"fish", FishScript}}};
  for (const auto& [name, script] : kScripts)
    if (name == shell) {
      Print(stdout, script(app));
      return 0;
    }
  throw Error(ErrorCode::kUsage, fmt::format("unknown shell '{}'", Escape(shell)))
      .Hint("bash, zsh and fish are known");
}

}  // namespace

void AddCompletion(CLI::App& app, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("completion", "Print a completion script for bash, zsh or fish");
  const auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "bash, zsh or fish")->required()->option_text(" ");
  command->footer(kCompletionExamples);
  command->callback(
      [&app, &chosen, shell] { chosen = [&app, shell] { return PrintScript(app, *shell); }; });
}

}  // namespace phiq::cli
