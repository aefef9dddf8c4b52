#include "edgemoe/backend/device.h"
#include "edgemoe/backend/views.h"

namespace edgemoe {
namespace {

// Longest way from an expert product to an operation of the same feed-forward network: bias, scale, clamp, activation, product.
constexpr int kMaxChain = 8;

bool ours(const ggml::Tensor* t) { return t && t->buffer && t->buffer->buft == disk_buffer_type(); }

bool element_wise(ggml::Op op) {
  switch (op) {
    case ggml::kOpAdd:
    case ggml::kOpAddId:
    case ggml::kOpSub:
    case ggml::kOpMul:
    case ggml::kOpDiv:
    case ggml::kOpSqr:
    case ggml::kOpScale:
    case ggml::kOpClamp:
    case ggml::kOpUnary:
    case ggml::kOpGlu:
      return true;
    default:
      return false;
  }
}

// The expert product that feeds `t` while `t` still has a row for each expert of each token; null when none does.
const ggml::Tensor* feeding_product(const ggml::Tensor* t, int depth) {
  t = behind_views(t);
  if (!t || depth == 0) return nullptr;
  if (t->op == ggml::kOpMulMatId) return ours(t->src[0]) ? t : nullptr;
  if (!element_wise(t->op)) return nullptr;
  for (int i = 0; i < 2; ++i) {
    const ggml::Tensor* product = t->src[i] ? feeding_product(t->src[i], depth - 1) : nullptr;
    if (product && t->ne[1] == product->ne[1] && t->ne[2] == product->ne[2]) return product;
  }
  return nullptr;
}

// The sum over a token's experts: every addend is a view of one expert's rows.
bool sums_experts(const ggml::Tensor* op) {
  if (op->op != ggml::kOpAdd && op->op != ggml::kOpCont) return false;
  const ggml::Tensor* addend = op->op == ggml::kOpCont ? op->src[0] : op->src[1];
  return addend && addend->op == ggml::kOpView && feeding_product(addend, kMaxChain);
}

}  // namespace

bool claims(const ggml::Tensor* op) {
  if (op->op == ggml::kOpNone) return ours(op);  // a weight, not an operation: it stays where it lies
  if (op->op == ggml::kOpMulMatId || op->op == ggml::kOpGetRows) return ours(op->src[0]);
  if (op->op == ggml::kOpCont) return sums_experts(op);
  return element_wise(op->op) && (feeding_product(op, kMaxChain) || sums_experts(op));
}

}  // namespace edgemoe
