// Work is counted in the processor's instructions; where the system does not give those, in the
// time that this thread had the processor, the least of a few runs.
#include "fuzz/growth.h"

#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "fuzz/targets.h"

namespace phiq::fuzz {
namespace {

class Counter {
 public:
  Counter() {
    perf_event_attr wanted = {};
    wanted.type = PERF_TYPE_HARDWARE;
    wanted.size = sizeof wanted;
    wanted.config = PERF_COUNT_HW_INSTRUCTIONS;
    wanted.exclude_kernel = 1;
    wanted.exclude_hv = 1;
    fd_ = static_cast<int>(::syscall(SYS_perf_event_open, &wanted, 0, -1, -1, 0));
  }
  ~Counter() {
    if (fd_ >= 0) ::close(fd_);
  }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;

  int n_tries() const noexcept { return fd_ >= 0 ? 1 : 3; }
  double Now() const {
    std::uint64_t n = 0;
    if (fd_ >= 0 && ::read(fd_, &n, sizeof n) == sizeof n) return static_cast<double>(n);
    timespec time = {};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
  }

 private:
  int fd_ = -1;
};

std::string Repeated(std::string_view what, std::size_t n) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text += what;
  return text;
}

// `make`, n times with its number, with commas between.
std::string Listed(std::size_t n, const std::function<std::string(const std::string&)>& make) {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text += (i == 0 ? "" : ",") + make(std::to_string(i));
  return text;
}

std::string Safetensors(std::string header) {
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string file;
  for (int shift = 0; shift < 64; shift += 8)
    file.push_back(static_cast<char>(std::uint64_t{header.size()} >> shift));
  return file + header;
}

struct Growth {
  std::string_view name, target;
  std::size_t n;  // and four times as many
  std::function<std::string(std::size_t n)> make;
};

std::vector<Growth> Growths() {
  const auto keys = [](std::size_t n) {
    return "{" + Listed(n, [](const std::string& i) { return "\"k" + i + "\":" + i; }) + "}";
  };
  return {
      {"tensors", "safetensors", 4000,
       [](std::size_t n) {
         return Safetensors("{" +
                            Listed(n,
                                   [](const std::string& i) {
                                     return "\"t" + i +
                                            R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
                                   }) +
                            "}");
       }},
      {"metadata of safetensors", "safetensors", 4000,
       [](std::size_t n) {
         return Safetensors(R"({"__metadata__":{)" +
                            Listed(n, [](const std::string& i) { return "\"k" + i + "\":\"v\""; }) +
                            "}}");
       }},
      {"shards", "shard_index", 240,
       [](std::size_t n) {
         return R"({"weight_map":{)" +
                Listed(n,
                       [](const std::string& i) {
                         return "\"t" + i + "\":\"s" + i + ".safetensors\"";
                       }) +
                "}}";
       }},
      {"keys of a configuration", "config", 4000, keys},
      {"end-of-text ids", "generation_config", 5000,
       [](std::size_t n) {
         return R"({"eos_token_id":[)" + Listed(n, [](const std::string& i) { return i; }) + "]}";
       }},
      {"named chat templates", "tokenizer_config", 4000,
       [](std::size_t n) {
         return R"({"chat_template":[)" +
                Listed(n,
                       [](const std::string& i) {
                         return R"({"name":"n)" + i + R"(","template":"x"})";
                       }) +
                "]}";
       }},
      {"range( without )", "tokenizer_config", 20'000,
       [](std::size_t n) { return R"({"chat_template":")" + Repeated("range(", n) + "\"}"; }},
      {"added tokens", "added_tokens", 4000,
       [](std::size_t n) {
         return "{" + Listed(n, [](const std::string& i) { return "\"<t" + i + ">\":" + i; }) + "}";
       }},
      {"tokens and merges", "tokenizer_json", 2000,
       [](std::size_t n) {
         return R"({"model":{"type":"BPE","vocab":{)" +
                Listed(n, [](const std::string& i) { return "\"a" + i + "\":" + i; }) +
                R"(},"merges":[)" +
                Listed(n, [](const std::string& i) { return "\"a" + i + " a" + i + "\""; }) + "]}}";
       }},
      {"statements of a template", "chat_template", 4000,
       [](std::size_t n) { return Repeated("{% if x %}a{% endif %}", n); }},
      {"operands of a template", "chat_template", 20'000,
       [](std::size_t n) { return "{{ 'a'" + Repeated(" ~ 'a'", n) + " }}"; }},
      {"ids", "ids", 50'000, [](std::size_t n) { return Repeated("12 ", n); }},
      {"a word", "text", 50'000, [](std::size_t n) { return Repeated("a", n); }},
      {"blanks", "text", 50'000, [](std::size_t n) { return Repeated(" ", n); }},
      {"tabs and line ends", "text", 20'000, [](std::size_t n) { return Repeated("\t\n", n); }},
      {"words", "text", 20'000, [](std::size_t n) { return Repeated("word ", n); }},
      {"added tokens of a text", "text", 10'000,
       [](std::size_t n) { return Repeated("<|end|> ", n); }},
      {"beginnings of added tokens", "text", 20'000,
       [](std::size_t n) { return Repeated("<|", n); }},
      {"brackets of XML", "openvino_xml", 4000,
       [](std::size_t n) {
         return R"(<?xml version="1.0"?><net name="x" version="11"><layers>)" +
                Repeated("<layer/>", n) + "</layers><edges></edges></net>";
       }},
      {"layers", "openvino_xml", 2000,
       [](std::size_t n) {
         std::string layers;
         for (std::size_t i = 0; i < n; ++i)
           layers +=
               "<layer id=\"" + std::to_string(i) + "\" name=\"l" + std::to_string(i) +
               R"(" type="Parameter" version="opset1"><output><port id="0" precision="FP32"/></output></layer>)";
         return R"(<?xml version="1.0"?><net name="x" version="11"><layers>)" + layers +
                "</layers><edges></edges></net>";
       }},
      {"keys of a record", "record", 4000, keys},
      {"keys of a profile", "profile", 4000, keys},
      {"keys of genai_config.json", "onnx_genai_config", 4000, keys},
  };
}

}  // namespace

void CheckGrowth() {
  constexpr double kMostTimes = 8;
  const Counter counter;
  for (const Growth& growth : Growths()) {
    const auto target = std::ranges::find(Targets(), growth.target, &Target::name);
    if (target == Targets().end()) Fail("no target " + std::string(growth.target));
    const auto work = [&](const std::string& input) {
      double least = 0;
      for (int i = 0; i < counter.n_tries(); ++i) {
        const double before = counter.Now();
        target->run(std::as_bytes(std::span(input)));
        const double took = counter.Now() - before;
        least = i == 0 ? took : std::min(least, took);
      }
      return least;
    };
    work(growth.make(1));  // what the target makes once
    const double small = work(growth.make(growth.n)), large = work(growth.make(4 * growth.n));
    std::printf("%-28s %5.2f times the work for 4 times the input\n",
                std::string(growth.name).c_str(), large / small);
    std::fflush(stdout);
    if (large > kMostTimes * small) Fail(std::string(growth.name) + ": not in proportion");
  }
}

}  // namespace phiq::fuzz
