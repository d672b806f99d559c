// Types and look-up of metadata values.
#include "formats/gguf/value.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace phiq::gguf {

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

const Value* Find(const Metadata& metadata, std::string_view key) noexcept {
  const auto found = std::find_if(metadata.begin(), metadata.end(),
                                  [&](const auto& record) { return record.first == key; });
  return found == metadata.end() ? nullptr : &found->second;
}

}  // namespace phiq::gguf
