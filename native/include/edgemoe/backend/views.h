/// @file views.h
/// Operations that only look at another tensor's data in a different shape.
#pragma once

#include "edgemoe/backend/ggml_abi.h"

namespace edgemoe {

inline bool is_view(const ggml::Tensor* t) {
  return t->op == ggml::kOpView || t->op == ggml::kOpReshape || t->op == ggml::kOpPermute || t->op == ggml::kOpTranspose;
}

/// @brief The tensor whose data `t` shows: `t` itself if it is no view.
inline const ggml::Tensor* behind_views(const ggml::Tensor* t) {
  while (t && is_view(t)) t = t->src[0];
  return t;
}

}  // namespace edgemoe
