/// @file residency_view.h
/// How much of each expert is in memory, for people to look at.
#pragma once

#include <vector>

#include "edgemoe/backend/engine.h"

namespace edgemoe {

/// @brief For each group of groups(), in memory of each expert now: bits per weight, over all of its matrices. Planes count from the
/// base up to the first that is missing, since those above it are of no use. Any thread may ask, also while a batch is computed.
std::vector<std::vector<float>> resident_bits(Engine& engine);

}  // namespace edgemoe
