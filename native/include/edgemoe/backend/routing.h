/// @file routing.h
/// Which rows of a batch go to which experts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "edgemoe/backend/ggml_abi.h"

namespace edgemoe {

/// @brief One routed row: slot `i1` of token `i2`, as MUL_MAT_ID's ids tensor [used, tokens] numbers them.
struct RoutedRow {
  int32_t slot;
  int32_t token;
};

/// @brief An expert and the rows it serves, in the order of the ids tensor.
struct RoutedExpert {
  uint32_t expert;
  std::vector<RoutedRow> rows;
};

/// @brief The group of a tensor whose experts are routed by the same ids as others of its layer: "blk.3.exps" for
/// "blk.3.ffn_gate_exps.weight".
std::string routing_group(const std::string& tensor);

/// @brief Groups the rows of `ids` (I32 [used, tokens], any strides, host memory) by expert, in order of first use.
/// @throws ModelError when an id lies outside [0, experts).
std::vector<RoutedExpert> group_rows(const ggml::Tensor& ids, uint32_t experts);

}  // namespace edgemoe
