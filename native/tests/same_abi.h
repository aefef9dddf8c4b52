/// @file same_abi.h
/// Whether two types are passed and laid out alike, whatever they are called.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

namespace edgemoe::testing {

/// @brief True for types that a caller compiled with one and a callee compiled with the other agree on: integers and
/// enums of one size, any two data pointers, arrays and functions whose parts agree, and structs of one size and
/// alignment (whose fields are compared one by one elsewhere).
template <class A, class B>
constexpr bool same_abi();

template <class A, class B>
struct SameFunction : std::false_type {};

template <class A, class... As, class B, class... Bs>
struct SameFunction<A(As...), B(Bs...)> {
  template <bool same_count>
  static constexpr bool arguments() {
    if constexpr (same_count) return (same_abi<As, Bs>() && ...);
    return false;
  }
  static constexpr bool value = same_abi<A, B>() && arguments<sizeof...(As) == sizeof...(Bs)>();
};

template <class T>
inline constexpr bool is_integer = std::is_integral_v<T> || std::is_enum_v<T>;

template <class T>
inline constexpr bool is_function_pointer = std::is_pointer_v<T> && std::is_function_v<std::remove_pointer_t<T>>;

template <class A, class B>
constexpr bool same_abi() {
  if constexpr (std::is_void_v<A> || std::is_void_v<B>) {
    return std::is_void_v<A> && std::is_void_v<B>;
  } else if constexpr (is_function_pointer<A> || is_function_pointer<B>) {
    return SameFunction<std::remove_pointer_t<A>, std::remove_pointer_t<B>>::value;
  } else if constexpr (std::is_array_v<A> || std::is_array_v<B>) {
    return sizeof(A) == sizeof(B) && same_abi<std::remove_all_extents_t<A>, std::remove_all_extents_t<B>>();
  } else if constexpr (std::is_same_v<A, bool> || std::is_same_v<B, bool>) {
    return std::is_same_v<A, B>;
  } else if constexpr (is_integer<A> || is_integer<B>) {
    return is_integer<A> && is_integer<B> && sizeof(A) == sizeof(B);
  } else if constexpr (std::is_floating_point_v<A> || std::is_floating_point_v<B>) {
    return std::is_same_v<A, B>;
  } else if constexpr (std::is_pointer_v<A> || std::is_pointer_v<B>) {
    return std::is_pointer_v<A> && std::is_pointer_v<B>;
  } else {
    return std::is_class_v<A> && std::is_class_v<B> && sizeof(A) == sizeof(B) && alignof(A) == alignof(B);
  }
}

struct Anything {
  template <class T>
  operator T() const;
};

template <class T, size_t... I>
constexpr auto takes(std::index_sequence<I...>, int) -> decltype(T{(static_cast<void>(I), Anything{})...}, true) {
  return true;
}
template <class T, size_t... I>
constexpr bool takes(std::index_sequence<I...>, long) {
  return false;
}

/// @brief Fields of a struct without arrays: how many values its braces take.
template <class T, size_t N = 0>
constexpr size_t field_count() {
  if constexpr (takes<T>(std::make_index_sequence<N + 1>{}, 0)) {
    return field_count<T, N + 1>();
  } else {
    return N;
  }
}

}  // namespace edgemoe::testing

/// Size and alignment of `edgemoe::ggml::ours` and ggml's struct.
#define EDGEMOE_SAME_STRUCT(ours, theirs)                                     \
  static_assert(sizeof(edgemoe::ggml::ours) == sizeof(theirs), "size of " #ours); \
  static_assert(alignof(edgemoe::ggml::ours) == alignof(theirs), "alignment of " #ours)

/// As many fields in both: a field that ggml adds may hide in the padding at the end. Not for structs with arrays.
#define EDGEMOE_SAME_FIELD_COUNT(ours, theirs)                                                                      \
  static_assert(edgemoe::testing::field_count<edgemoe::ggml::ours>() == edgemoe::testing::field_count<theirs>(), \
                "fields of " #ours)

/// Offset and type of one field under its two names.
#define EDGEMOE_SAME_FIELD_AS(ours, field, theirs, their_field)                                                       \
  static_assert(offsetof(edgemoe::ggml::ours, field) == offsetof(theirs, their_field), "offset of " #ours "::" #field); \
  static_assert(edgemoe::testing::same_abi<decltype(edgemoe::ggml::ours::field), decltype(theirs::their_field)>(),    \
                "type of " #ours "::" #field)
#define EDGEMOE_SAME_FIELD(ours, theirs, field) EDGEMOE_SAME_FIELD_AS(ours, field, theirs, field)

/// A constant of ours and the value that ggml gives it.
#define EDGEMOE_SAME_VALUE(ours, theirs) \
  static_assert(static_cast<long long>(edgemoe::ggml::ours) == static_cast<long long>(theirs), #ours " differs from " #theirs)
