// NEON as every 64-bit ARM processor has it (Raspberry Pi 4).
#include "neon.h"

namespace edgemoe::kernels {

const Variant kNeonVariant = {"neon", [] { return true; }, multiply_with_isa<Neon>, Assembler<NeonLane>::assemble};

}  // namespace edgemoe::kernels
