/// @file error.h
/// What the native code throws; the bindings turn each class into its Python namesake.
#pragma once

#include <stdexcept>
#include <string>

namespace edgemoe {

/// @brief Base of all errors; the message says what was wrong, with which value, and what to do.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// @brief A file that cannot be opened or read.
class IoError : public Error {
  using Error::Error;
};

/// @brief A model file whose contents are not usable.
class ModelError : public Error {
  using Error::Error;
};

/// @brief A memory budget that cannot be met.
class BudgetError : public Error {
  using Error::Error;
};

}  // namespace edgemoe
