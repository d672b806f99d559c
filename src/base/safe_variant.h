// std::variant whose copies may run out of memory. Of alternatives that it never takes for
// valueless (strings, vectors, small values) the copy constructor of GCC 12's library destroys,
// when one of them throws, what was never made: a jump into nowhere.
#pragma once

#include <type_traits>
#include <utility>
#include <variant>

namespace phiq {

template <typename... Types>
struct SafeVariant : std::variant<Types...> {
  using Base = std::variant<Types...>;
  using Base::Base;

  SafeVariant() = default;
  // Into an alternative's own copy first; moving that throws nothing.
  SafeVariant(const SafeVariant& other)
      : Base(
            std::visit([](const auto& value) { return Base(std::decay_t<decltype(value)>(value)); },
                       static_cast<const Base&>(other))) {}
  SafeVariant(SafeVariant&&) noexcept = default;
  SafeVariant& operator=(const SafeVariant& other) {
    SafeVariant copy(other);
    *this = std::move(copy);
    return *this;
  }
  SafeVariant& operator=(SafeVariant&&) noexcept = default;
  ~SafeVariant() = default;

  template <typename T>
  requires(!std::is_same_v<std::decay_t<T>, SafeVariant>) SafeVariant& operator=(T&& value) {
    Base::operator=(std::forward<T>(value));
    return *this;
  }
};

}  // namespace phiq
