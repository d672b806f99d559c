// GPT-2's byte alphabet: byte-level vocabularies spell every byte as one printable character.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace phiq {

// The character, in UTF-8, that stands for a byte: printable ones for themselves, the other 68 are
// U+0100 and up in the order of the bytes.
std::string ByteLetter(std::uint8_t byte);

// The bytes that a token's text stands for; nullopt when a character is not in the alphabet.
std::optional<std::string> BytesOfLetters(std::string_view text);

}  // namespace phiq
