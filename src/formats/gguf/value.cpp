// Types, look-up and text of metadata values.
#include "formats/gguf/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "phiq/text.h"

namespace phiq::gguf {
namespace {

constexpr std::size_t kShownItems = 6;  // of an array

std::string ShowItem(const std::string& text) { return fmt::format("'{}'", Escape(text)); }
std::string ShowItem(bool value) { return value ? "true" : "false"; }
template <typename T>
std::string ShowItem(T value) {
  return fmt::format("{}", value);
}

}  // namespace

ValueType ElementTypeOf(const Value& value) noexcept {
  return std::visit(
      []<typename T>(const T&) {
        if constexpr (kIsArray<T>) {
          return ScalarType<typename T::value_type>();
        } else {
          return ScalarType<T>();
        }
      },
      value);
}

ValueType TypeOf(const Value& value) noexcept {
  const bool is_array = std::visit([]<typename T>(const T&) { return kIsArray<T>; }, value);
  return is_array ? ValueType::kArray : ElementTypeOf(value);
}

std::string_view TypeName(ValueType type) noexcept {
  constexpr std::array<std::string_view, 13> kNames = {"u8",  "i8",  "u16",  "i16",    "u32",
                                                       "i32", "f32", "bool", "string", "array",
                                                       "u64", "i64", "f64"};
  return kNames[static_cast<std::size_t>(type)];
}

std::string Show(const Value& value) {
  return std::visit(
      []<typename T>(const T& v) -> std::string {
        if constexpr (std::is_same_v<T, std::string>) {
          return Escape(v);
        } else if constexpr (kIsArray<T>) {
          std::string items;
          for (std::size_t i = 0; i < std::min(v.size(), kShownItems); ++i) {
            items += (i == 0 ? "" : ", ") + ShowItem(static_cast<typename T::value_type>(v[i]));
          }
          return fmt::format("[{}{}] ({} items)", items, v.size() > kShownItems ? ", ..." : "",
                             v.size());
        } else {
          return ShowItem(v);
        }
      },
      value);
}

const Value* Find(const Metadata& metadata, std::string_view key) noexcept {
  const auto found = std::find_if(metadata.begin(), metadata.end(),
                                  [&](const auto& record) { return record.first == key; });
  return found == metadata.end() ? nullptr : &found->second;
}

}  // namespace phiq::gguf
