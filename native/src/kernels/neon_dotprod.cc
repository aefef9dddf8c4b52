// NEON with dot products (ARMv8.2 and later).
#include "neon.h"

namespace edgemoe::kernels {

const Variant kNeonDotprodVariant = {"neon-dotprod", has_dot_products, multiply_with_isa<Neon>, Assembler<NeonLane>::assemble};

}  // namespace edgemoe::kernels
