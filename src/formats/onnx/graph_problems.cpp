// Resolves every name the way a runtime does: a graph inside a node sees the names around it.
#include "formats/onnx/graph_problems.h"

#include <fmt/format.h>

#include <cstddef>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/limits.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

constexpr std::size_t kNoNode = static_cast<std::size_t>(-1);  // defined by the graph itself

// The names of one graph and those around it.
struct Scope {
  const Scope* outer = nullptr;
  std::unordered_map<std::string_view, std::size_t> definitions;  // name -> node of this graph

  bool Knows(std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->outer) {
      if (scope->definitions.contains(name)) return true;
    }
    return false;
  }
};

class Finder {
 public:
  std::vector<std::string> Find(const ::onnx::GraphProto& graph) {
    std::unordered_set<std::string_view> captured;
    CheckGraph(graph, nullptr, captured);
    if (n_problems_ > problems_.size()) {
      problems_.push_back(fmt::format("and {} more", n_problems_ - problems_.size()));
    }
    return std::move(problems_);
  }

 private:
  template <typename... T>
  void Say(fmt::format_string<T...> text, T&&... values) {
    if (n_problems_++ < limits::kOnnxProblems) {
      problems_.push_back(fmt::format(text, std::forward<T>(values)...));
    }
  }

  Scope Define(const ::onnx::GraphProto& graph, const Scope* outer) {
    Scope scope;
    scope.outer = outer;
    for (const ::onnx::TensorProto& initializer : graph.initializer()) {
      if (!scope.definitions.emplace(initializer.name(), kNoNode).second) {
        Say("two initializers are named '{}'", Escape(initializer.name()));
      }
    }
    for (const ::onnx::SparseTensorProto& initializer : graph.sparse_initializer()) {
      if (!scope.definitions.emplace(initializer.values().name(), kNoNode).second) {
        Say("two initializers are named '{}'", Escape(initializer.values().name()));
      }
    }
    std::unordered_set<std::string_view> inputs;
    for (const ::onnx::ValueInfoProto& input : graph.input()) {
      if (!inputs.insert(input.name()).second)
        Say("two inputs are named '{}'", Escape(input.name()));
      scope.definitions.emplace(input.name(), kNoNode);  // an initializer may be an input's default
    }
    for (int i = 0; i < graph.node_size(); ++i) {
      for (const std::string& output : graph.node(i).output()) {
        if (output.empty()) continue;  // not wanted
        if (!scope.definitions.emplace(output, static_cast<std::size_t>(i)).second) {
          Say("node '{}': its output '{}' is defined twice", Escape(graph.node(i).name()),
              Escape(output));
        }
      }
    }
    return scope;
  }

  // `captured` gets the names that the graph takes from around it.
  void CheckGraph(const ::onnx::GraphProto& graph, const Scope* outer,
                  std::unordered_set<std::string_view>& captured) {
    const Scope scope = Define(graph, outer);
    const auto n_nodes = static_cast<std::size_t>(graph.node_size());
    std::vector<std::vector<std::size_t>> readers(n_nodes);
    std::vector<std::size_t> n_waits(n_nodes);
    const auto use = [&](std::string_view name, std::size_t reader) {
      const auto found = scope.definitions.find(name);
      if (found == scope.definitions.end()) {
        captured.insert(name);
      } else if (found->second != kNoNode && reader != kNoNode) {
        readers[found->second].push_back(reader);
        ++n_waits[reader];
      }
    };
    for (std::size_t i = 0; i < n_nodes; ++i) {
      const ::onnx::NodeProto& node = graph.node(static_cast<int>(i));
      for (const std::string& input : node.input()) {
        if (input.empty()) continue;  // left out
        if (!scope.Knows(input)) {
          Say("node '{}' reads '{}', which nothing defines", Escape(node.name()), Escape(input));
        }
        use(input, i);
      }
      std::unordered_set<std::string_view> inside;
      for (const ::onnx::AttributeProto& attribute : node.attribute()) {
        if (attribute.has_g()) CheckGraph(attribute.g(), &scope, inside);
        for (const ::onnx::GraphProto& branch : attribute.graphs())
          CheckGraph(branch, &scope, inside);
      }
      for (const std::string_view name : inside) use(name, i);
    }
    for (const ::onnx::ValueInfoProto& output : graph.output()) {
      if (!scope.Knows(output.name()))
        Say("output '{}' is defined by nothing", Escape(output.name()));
      use(output.name(), kNoNode);
    }
    CheckOrder(graph, readers, n_waits);
  }

  // Runs the nodes in an order that has every input ready; what is left waits for itself.
  void CheckOrder(const ::onnx::GraphProto& graph,
                  const std::vector<std::vector<std::size_t>>& readers,
                  std::vector<std::size_t>& n_waits) {
    std::vector<std::size_t> ready;
    for (std::size_t i = 0; i < n_waits.size(); ++i) {
      if (n_waits[i] == 0) ready.push_back(i);
    }
    std::size_t n_done = 0;
    while (!ready.empty()) {
      const std::size_t node = ready.back();
      ready.pop_back();
      ++n_done;
      for (const std::size_t reader : readers[node]) {
        if (--n_waits[reader] == 0) ready.push_back(reader);
      }
    }
    if (n_done == n_waits.size()) return;
    // Walking back from a node that waits, always to one that waits too, ends in the cycle.
    std::vector<std::size_t> waits_for(n_waits.size(), kNoNode);
    for (std::size_t i = 0; i < readers.size(); ++i) {
      if (n_waits[i] == 0) continue;
      for (const std::size_t reader : readers[i]) waits_for[reader] = i;
    }
    std::size_t node = 0;
    while (n_waits[node] == 0) ++node;
    for (std::size_t step = 0; step < n_waits.size(); ++step) node = waits_for[node];
    Say("node '{}' is in a cycle: it waits for its own output",
        Escape(graph.node(static_cast<int>(node)).name()));
  }

  std::vector<std::string> problems_;
  std::size_t n_problems_ = 0;
};

}  // namespace

std::vector<std::string> FindProblems(const ::onnx::GraphProto& graph) {
  return Finder().Find(graph);
}

}  // namespace phiq::onnx
