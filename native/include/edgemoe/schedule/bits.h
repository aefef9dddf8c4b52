/// @file bits.h
/// Which planes of a layer's routed experts are worth reading, and in which order: pure policy, without I/O.
#pragma once

#include <cstdint>
#include <vector>

namespace edgemoe {

/// @brief A routed expert as the choice of planes sees it. Only the first `planes` entries of the arrays are read.
struct ExpertBits {
  uint32_t expert = 0;
  double hotness = 1;               ///< h: the squared router weights of the rows that use it, summed
  const float* errors = nullptr;    ///< relative squared error with the first 1, 2, ... planes; never rises
  const uint64_t* bytes = nullptr;  ///< of each plane
  uint32_t planes = 1;              ///< that it has, at least 1
  uint32_t resident = 0;            ///< first planes that are in memory
};

/// @brief One plane to read: of experts[index] in the list that was given.
struct PlaneRead {
  uint32_t index;
  uint32_t plane;
};

/// @brief Hottest expert bit first (D2MoE, arXiv 2504.15299): what a layer waits for.
///
/// A layer's expected relative squared error is sum of h_e eps_e(planes) over sum of h_e. Planes that are in memory are used,
/// every expert has at least its base plane, and then the plane of the highest value, h_e (eps_e(p - 1) - eps_e(p)) a byte, is
/// read next until the error is at most `target`.
///
/// @param[out] planes of each expert: how many are used. @param[out] reads those not in memory: base planes by falling
/// hotness, then by falling value; a plane never stands before one that it builds on.
void choose_planes(const std::vector<ExpertBits>& experts, double target, std::vector<uint8_t>* planes, std::vector<PlaneRead>* reads);

/// @brief A price for bytes: each plane is used whose value is at least `price`, however large the error is then.
///
/// Otherwise as choose_planes(). Where hotness counts what the model loses, one price for all layers gives the least loss for the
/// bytes (Lagrange).
void choose_worth(const std::vector<ExpertBits>& experts, double price, std::vector<uint8_t>* planes, std::vector<PlaneRead>* reads);

/// @brief How much a use of an expert by `rows` rows counts for keeping one of its planes: `rows` where the plane is `wanted` (of
/// the first so many that are worth waiting for), else a small share, in proportion to what it mends of `enough`, the fall of
/// sum h_e eps_e from which on it would be wanted.
double keeping_weight(const ExpertBits& expert, uint32_t plane, uint32_t wanted, double rows, double enough);

}  // namespace edgemoe
