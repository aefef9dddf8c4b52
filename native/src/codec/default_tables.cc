#include "edgemoe/codec/tables.h"

namespace edgemoe::codec {
namespace {

constexpr Tables kDefault = {
#include "default_tables.inc"
};

}  // namespace

const Tables& default_tables() { return kDefault; }

}  // namespace edgemoe::codec
